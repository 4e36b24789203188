// Uses the page as people do: node page.js CHROMIUM URL WIDTH USE [FILE]; prints what it found as one line of JSON.
import { launch } from "./browser.js";
import * as choosing from "./choosing.js";
import * as keeping from "./keeping.js";
import * as looks from "./looks.js";
import * as sound from "./sound.js";
import * as voices from "./voices.js";

const [, , executablePath, url, width, use, file] = process.argv;
const browser = await launch(executablePath);
try {
  const uses = { ...sound, ...voices, ...keeping, ...choosing, ...looks };
  console.log(JSON.stringify((await uses[use]({ browser, url, width: Number(width), file })) ?? {}));
} finally {
  await browser.close();
}
