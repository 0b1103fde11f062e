import * as apps from "kubernetes-models/apps/v1";
import * as networking from "kubernetes-models/networking.k8s.io/v1";
import * as policy from "kubernetes-models/policy/v1";
import * as core from "kubernetes-models/v1";
import * as keda from "@kubernetes-models/keda/keda.sh/v1alpha1";
import * as monitoring from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
import type { KubernetesObject } from "./render.js";

/** As far as it is used: `validate` checks whatever `this` is, and throws. */
type Model = { readonly prototype: { validate(this: object): void } };

const MODELS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  "v1": core, "apps/v1": apps, "networking.k8s.io/v1": networking, "policy/v1": policy,
  "keda.sh/v1alpha1": keda, "monitoring.coreos.com/v1": monitoring,
};

/**
 * What the schemas of Kubernetes, KEDA and the Prometheus operator say against an object, fields that they do not know
 * included: an API server would drop those in silence. Empty if nothing.
 */
export function violations(object: KubernetesObject): readonly string[] {
  const Kind = MODELS[object.apiVersion]?.[object.kind] as Model | undefined;
  if (Kind === undefined) return [`${object.apiVersion} has no ${object.kind}`];
  const asked = new Set<string>();
  try {
    // Not on an instance: making one would copy the object and so read every field.
    Kind.prototype.validate.call(watched(object, "", asked));
  } catch (error) {
    return [(error as Error).message];
  }
  return fieldsOf(object, "").filter((path) => !asked.has(path) && !isFree(path));
}

/** The object, noting the path of every field that is read: the schemas' validators read each field that they know. */
function watched<T extends object>(object: T, at: string, asked: Set<string>): T {
  return new Proxy(object, {
    get(target, key, receiver) {
      const value: unknown = Reflect.get(target, key, receiver);
      if (typeof key !== "string") return value;
      asked.add(`${at}/${key}`);
      return typeof value === "object" && value !== null ? watched(value, `${at}/${key}`, asked) : value;
    },
  });
}

function fieldsOf(object: object, at: string): string[] {
  return Object.entries(object).flatMap(([key, value]: [string, unknown]) => [
    `${at}/${key}`, ...(typeof value === "object" && value !== null ? fieldsOf(value, `${at}/${key}`) : []),
  ]);
}

/** Whether a path lies under a field that holds whatever the user likes, into which validators do not look. */
function isFree(path: string): boolean {
  return /^\/(data|metadata\/(labels|annotations))\//.test(path);
}
