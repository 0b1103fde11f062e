/** `npm run kernel`: compile the AssemblyScript of the engine into the module that is committed. */
import { writeFileSync } from "node:fs";
import { COMPILED_FILE, compileLawKernel } from "./compile.js";

writeFileSync(COMPILED_FILE, await compileLawKernel());
