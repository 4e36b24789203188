import { chromium } from "playwright-core";
const url = process.argv[2], out = process.argv[3];
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
for (const [name, opts] of Object.entries({
  light: { viewport: { width: 1280, height: 800 }, colorScheme: "light" },
  dark: { viewport: { width: 1280, height: 800 }, colorScheme: "dark" },
  phone: { viewport: { width: 320, height: 640 }, isMobile: true, hasTouch: true, colorScheme: "dark" } })) {
  const c = await browser.newContext(opts); const p = await c.newPage();
  p.on("console", m => console.log(name, m.type(), m.text())); p.on("pageerror", e => console.log(name, "ERR", String(e)));
  p.on("response", r => r.status() >= 400 && console.log(name, r.status(), r.url()));
  await p.goto(url); await p.waitForTimeout(2500);
  await p.screenshot({ path: `${out}/${name}.png`, fullPage: true });
  if (name === "light") { const t = await p.locator("body").innerText(); console.log(t); 
    const html = await p.evaluate(() => [...document.querySelectorAll("input,select,textarea,button,summary")].map(e => `${e.tagName} ${e.id} ${e.type||""} hidden=${e.offsetParent===null} label=${e.labels?.[0]?.innerText ?? e.ariaLabel ?? e.innerText}`).join("\n")); console.log(html); }
  await c.close();
}
await browser.close();
