import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";

/** The folder `deploy/`. */
export const DEPLOY: string = fileURLToPath(new URL("../../../deploy/", import.meta.url));

/** The overlays of `deploy/kubernetes/`. */
export const OVERLAYS: readonly string[] = readdirSync(`${DEPLOY}kubernetes/overlays`);

/** Any YAML value, read without a type: the tests say what it must be. */
// oxlint-disable-next-line typescript/no-explicit-any -- a path into a rendered object fails the test that takes it.
export type Yaml = any;

/** One rendered Kubernetes object. */
export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Readonly<Record<string, string>> };
  readonly spec?: Yaml;
  readonly data?: Readonly<Record<string, string>>;
}

/**
 * What `kubectl kustomize` makes of an overlay: the very tool that applies it.
 * @throws Error with the tool's words if it cannot; needs `kubectl` in the path, but no cluster.
 */
export function render(overlay: string): readonly KubernetesObject[] {
  const text = execFileSync("kubectl", ["kustomize", `${DEPLOY}kubernetes/overlays/${overlay}`], { encoding: "utf8", maxBuffer: 2 ** 26 });
  return parseAllDocuments(text).map((document) => document.toJS() as KubernetesObject);
}

/** The objects of one kind. */
export function ofKind(objects: readonly KubernetesObject[], kind: string): readonly KubernetesObject[] {
  return objects.filter((object) => object.kind === kind);
}
