// Pictures of the page for the README: node screenshots.js CHROMIUM URL FOLDER writes page-light.png and page-dark.png.
import { launch, open, speak } from "./browser.js";

const [, , executablePath, url, folder] = process.argv;
const TEXT = "It is 7 o'clock, the kettle is on, and “this” sentence was made on my own machine";
const browser = await launch(executablePath);
try {
  for (const colorScheme of ["light", "dark"]) {
    const viewport = { width: 1120, height: 560 };
    const page = await open({ browser, url, width: 1280 }, { colorScheme, viewport, reducedMotion: "reduce" });
    await speak(page, TEXT);
    // No field has the focus, and the picture does not show where the mouse is.
    await page.evaluate(() => document.activeElement.blur());
    await page.mouse.move(0, 0);
    await page.screenshot({ path: `${folder}/page-${colorScheme}.png` });
    await page.context().close();
  }
} finally {
  await browser.close();
}
