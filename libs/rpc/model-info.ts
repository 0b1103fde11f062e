import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Bundle } from "#libs/bundle/bundle.js";
import { mismatch, type AppError } from "#libs/errors/errors.js";
import { ModelFamily, type ModelInfoSchema } from "./gen/tessera/v1/types_pb.js";

const FAMILIES = { simplear: ModelFamily.SIMPLEAR, ecar: ModelFamily.ECAR } as const;

/** What a service reports of the bundle it has loaded. */
export function modelInfoOf({ manifest, digest }: Bundle): MessageInitShape<typeof ModelInfoSchema> {
  const { height, width, gridHeight, gridWidth } = manifest.image;
  const codebookSize = manifest.family === "simplear" ? manifest.image.codebookSize : 0;
  return {
    name: manifest.name, family: FAMILIES[manifest.family], digest, height, width, gridHeight, gridWidth, codebookSize,
  };
}

/** A neighbour works with other tokens than we do. @param digest of the bundle that it has loaded. */
export function anotherBundle(neighbour: string, digest: string | undefined, own: Bundle): AppError {
  return mismatch(
    `the ${neighbour} has loaded another bundle: ${digest}, not ${own.digest}; start all services with the same one`,
  );
}
