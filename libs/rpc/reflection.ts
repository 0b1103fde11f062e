import { create, toBinary, type DescFile } from "@bufbuild/protobuf";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { ServerReflection } from "nice-grpc-server-reflection";

/** The handlers of grpc.reflection.v1 for some services: their files and all that these import. */
export function reflectionOf(services: readonly GenService<GenServiceMethods>[]): ReturnType<typeof ServerReflection> {
  const files = new Set<DescFile>();
  const add = (file: DescFile) => {
    file.dependencies.forEach(add);
    files.add(file);
  };
  for (const { file } of services) add(file);
  const set = create(FileDescriptorSetSchema, { file: [...files].map((file) => file.proto) });
  return ServerReflection(toBinary(FileDescriptorSetSchema, set), services.map(({ typeName }) => typeName));
}
