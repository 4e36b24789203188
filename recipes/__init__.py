"""Recipes: training code, never imported by the package."""
