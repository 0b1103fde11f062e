import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const ENGINE = fileURLToPath(new URL("../../../services/generator/engine/", import.meta.url));

/** The module that holds the compiled kernel. */
export const COMPILED_FILE: string = join(ENGINE, "gen/law-kernel.ts");

/** Compile the law kernel. @returns the text of `COMPILED_FILE`. @throws Error with the compiler's words if it has errors. */
export async function compileLawKernel(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "tessera-kernel-"));
  try {
    const outFile = join(folder, "law-kernel.wasm");
    const { error, stderr } = await asc.main([
      join(ENGINE, "assembly/law-kernel.ts"), "--outFile", outFile, "--runtime", "stub", "--enable", "simd",
      "--optimizeLevel", "3", "--noAssert", "--use", "abort=",
    ]);
    if (error) throw new Error(`${error.message}\n${stderr.toString()}`);
    return [
      "// Compiled from assembly/law-kernel.ts by `npm run kernel`. Do not edit.",
      "/** The kernel as a WebAssembly module, in base64. */",
      `export const LAW_KERNEL = "${readFileSync(outFile).toString("base64")}";`,
      "",
    ].join("\n");
  } finally {
    rmSync(folder, { recursive: true });
  }
}
