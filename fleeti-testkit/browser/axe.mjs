// Accessibility of the page that is open, by axe-core: the rules of WCAG 2.2 A and AA, and best practice.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"];

/** A function that looks at a page, and keeps what axe finds. Playwright evaluates axe outside of the policy of the page. */
export function examiner(playwright) {
  const axe = readFileSync(createRequire(`${playwright}/`).resolve("axe-core/axe.min.js"), "utf8");
  const findings = new Map();
  let looked = 0;
  async function found(page) {
    if (!await page.evaluate(() => typeof window.axe === "object")) await page.evaluate(axe);
    const options = { runOnly: TAGS, resultTypes: ["violations"] };
    const { violations } = await page.evaluate(async (given) => {
      // What sticks to the window covers something at any position: whoever scrolls reaches it.
      const stuck = [...document.querySelectorAll("body *")]
        .filter((e) => ["fixed", "sticky"].includes(getComputedStyle(e).position) && !e.closest("dialog"));
      for (const element of stuck) element.style.setProperty("position", "static", "important");
      try {
        return await window.axe.run(document, given);
      } finally {
        for (const element of stuck) element.style.removeProperty("position");
      }
    }, options);
    return violations;
  }
  async function examine(page, name) {
    const violations = await found(page);
    looked += 1;
    for (const { id, help, nodes } of violations) {
      for (const { html, failureSummary } of nodes) {
        const why = failureSummary.split("\n").slice(1).join(";").trim();
        const key = `${id}: ${html.slice(0, 160)}`;
        findings.set(key, findings.get(key) ?? `${name}: ${help}: ${key} (${why.slice(0, 240)})`);
      }
    }
  }
  return { examine, looked: () => looked, findings: () => [...findings.values()] };
}
