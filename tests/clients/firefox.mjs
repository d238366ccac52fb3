// Debian's Firefox without a window, by WebDriver BiDi: Playwright drives only a build of its own.

import assert from "node:assert/strict";

import puppeteer from "puppeteer-core";

import { DEADLINE_MS } from "./support.mjs";

/** Starts the browser. Launching makes a profile of its own, and closing removes it. */
export function launchFirefox() {
  const executablePath = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
  return puppeteer.launch({ browser: "firefox", executablePath, headless: true });
}

/** Opens the page in a context of its own, and fails the test if the page ever complains. */
export async function openInFirefox(t, browser, url) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("response", (answer) => {
    const { pathname } = new URL(answer.url());
    // Firefox asks for an icon by itself.
    if (answer.status() >= 400 && pathname !== "/favicon.ico") complaints.push(`${pathname}: HTTP ${answer.status()}`);
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints, [], "the browser complained");
  });
  await page.goto(url);
  return { page };
}
