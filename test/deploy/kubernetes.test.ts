import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { DRAIN_MS, ABORT_MS } from "#libs/rpc/limits.js";
import { TELEMETRY_STOP_MS } from "#libs/telemetry/telemetry.js";
import { ofKind, OVERLAYS, render, type KubernetesObject, type Yaml } from "./render.js";
import { violations } from "./schemas.js";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const SERVICES = { tokenizer: 50051, generator: 50052, decoder: 50053 } as const;
const HEALTH_PORT = 50060;

const hasKubectl = (() => {
  try {
    return execFileSync("kubectl", ["version", "--client"]).length > 0;
  } catch {
    return false;
  }
})();

/** Without the tool there is nothing to look at; CI has it, and must not skip. */
const skip = hasKubectl || process.env["CI"] === "true" ? false : "kubectl is not installed";

const podOf = (object: KubernetesObject): Yaml => object.spec.template.spec;
const isOurs = ({ metadata }: KubernetesObject) => Object.hasOwn(SERVICES, metadata.name);
const servicePods = (objects: readonly KubernetesObject[]) =>
  ofKind(objects, "Deployment").filter(isOurs).map((object) => ({ name: object.metadata.name as keyof typeof SERVICES, pod: podOf(object) }));

test("the loader of the model volume is what the schemas ask for, and mounts the claim of the pods that read it", { skip }, () => {
  const file = (name: string) => parse(readFileSync(`${ROOT}deploy/kubernetes/components/model-volume/${name}.yaml`, "utf8"));
  const [loader, claim] = [file("loader"), file("claim")];
  assert.deepEqual(violations(loader), []);
  assert.equal(loader.spec.volumes[0].persistentVolumeClaim.claimName, claim.metadata.name);
  const [{ pod }] = servicePods(render("model-volume"));
  assert.equal(loader.spec.securityContext.runAsUser, pod.securityContext.runAsUser);
  assert.ok(pod.volumes.some((volume: Yaml) => volume.persistentVolumeClaim?.claimName === claim.metadata.name));
});

for (const overlay of OVERLAYS) {
  test(`${overlay}: every object is what the Kubernetes schemas ask for`, { skip }, () => {
    const objects = render(overlay);
    assert.ok(objects.length >= 16);
    for (const object of objects) assert.deepEqual(violations(object), [], `${object.kind} ${object.metadata.name}`);
  });

  test(`${overlay}: everything that has a namespace is in ours`, { skip }, () => {
    const elsewhere = render(overlay).filter(({ kind, metadata }) => kind !== "Namespace" && metadata.namespace !== "tessera");
    assert.deepEqual(elsewhere.map(({ kind, metadata }) => `${kind} ${metadata.name}`), []);
  });

  test(`${overlay}: pods are locked up, bounded, and named by an exact image`, { skip }, () => {
    for (const object of ofKind(render(overlay), "Deployment")) {
      const pod = podOf(object);
      assert.equal(pod.automountServiceAccountToken, false);
      assert.equal(pod.securityContext.runAsNonRoot, true);
      assert.ok(pod.securityContext.runAsUser > 0);
      assert.equal(pod.securityContext.seccompProfile.type, "RuntimeDefault");
      for (const container of [...pod.containers, ...(pod.initContainers ?? [])]) {
        const { securityContext, resources, image } = container;
        assert.deepEqual(securityContext, { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } });
        assert.ok(resources.requests.cpu && resources.requests.memory && resources.limits.memory);
        assert.match(image, /:\d+\.\d+\.\d+/);
      }
    }
  });

  test(`${overlay}: the grace time covers the whole of a stop`, { skip }, () => {
    for (const { pod } of servicePods(render(overlay))) {
      const [{ lifecycle }] = pod.containers;
      const stopMs = DRAIN_MS + 2 * ABORT_MS + TELEMETRY_STOP_MS;
      assert.ok(pod.terminationGracePeriodSeconds * 1000 > lifecycle.preStop.sleep.seconds * 1000 + stopMs + 5000);
    }
  });

  test(`${overlay}: the three probes ask three questions`, { skip }, () => {
    for (const { pod } of servicePods(render(overlay))) {
      const [{ startupProbe, readinessProbe, livenessProbe, ports }] = pod.containers;
      assert.deepEqual([startupProbe.grpc, readinessProbe.grpc], [{ port: HEALTH_PORT }, { port: HEALTH_PORT }]);
      assert.deepEqual(livenessProbe.grpc, { port: HEALTH_PORT, service: "live" });
      assert.ok(startupProbe.periodSeconds * startupProbe.failureThreshold >= 120);
      assert.ok(ports.some((port: Yaml) => port.name === "health" && port.containerPort === HEALTH_PORT));
    }
  });

  test(`${overlay}: clients see every pod, and calls go only along the way of a request`, { skip }, () => {
    const objects = render(overlay);
    for (const [name, port] of Object.entries(SERVICES)) {
      const service = ofKind(objects, "Service").find(({ metadata }) => metadata.name === name)!;
      assert.equal(service.spec.clusterIP, "None");
      assert.deepEqual(service.spec.ports[0], { name: "grpc", port, targetPort: "grpc", appProtocol: "grpc" });
      const budget = ofKind(objects, "PodDisruptionBudget").find(({ metadata }) => metadata.name === name)!;
      assert.equal(budget.spec.maxUnavailable, 1);
    }
    const policies = ofKind(objects, "NetworkPolicy");
    const callersOf = (name: string) => policies.filter(({ spec }) => spec.podSelector.matchLabels["app.kubernetes.io/component"] === name)
      .flatMap(({ spec }) => spec.ingress.flatMap(({ from }: Yaml) => from));
    const component = (name: string) => [{ podSelector: { matchLabels: { "app.kubernetes.io/name": "tessera", "app.kubernetes.io/component": name } } }];
    assert.deepEqual(callersOf("tokenizer"), component("generator"));
    assert.deepEqual(callersOf("generator"), component("decoder"));
    const client = { matchLabels: { "tessera-client": "true" } };
    assert.deepEqual(callersOf("decoder"), [{ namespaceSelector: client, podSelector: client }]);
    const deny = policies.find(({ metadata }) => metadata.name === "deny-all")!;
    assert.deepEqual(deny.spec, { podSelector: { matchLabels: { "app.kubernetes.io/name": "tessera" } }, policyTypes: ["Ingress", "Egress"] });
  });

  test(`${overlay}: every variable is one that a service reads, every file one that exists`, { skip }, () => {
    const objects = render(overlay);
    const sources = execFileSync("grep", ["-rhoE", "\"(TESSERA|OTEL)_[A-Z_]+\"", "libs", "services", "--include=*.ts"], { cwd: ROOT, encoding: "utf8" });
    const known = new Set(sources.split("\n").map((quoted) => quoted.slice(1, -1)));
    const maps = new Map(ofKind(objects, "ConfigMap").map(({ metadata, data }) => [metadata.name, data ?? {}]));
    for (const { name, pod } of servicePods(objects)) {
      const [container] = pod.containers;
      const shared = maps.get(container.envFrom[0].configMapRef.name)!;
      const variables = [...Object.keys(shared), ...container.env.map((variable: Yaml) => variable.name)];
      const foreign = variables.filter((variable) => variable.startsWith("TESSERA_") && variable !== "TESSERA_MODEL_DIGEST" && !known.has(variable));
      assert.deepEqual(foreign, [], name);
      for (const { args } of [container, ...(pod.initContainers ?? [])]) {
        assert.ok(readFileSync(ROOT + args[0].replace("dist/", "").replace(/\.js$/, ".ts")).length > 0);
      }
      for (const { name: mounted } of container.volumeMounts) assert.ok(pod.volumes.some((volume: Yaml) => volume.name === mounted));
    }
  });
}

test("three replicas never share a node, and the autoscaler owns their number", { skip }, () => {
  const objects = render("three-replica");
  const scaled = ofKind(objects, "ScaledObject");
  assert.deepEqual(scaled.map(({ spec }) => [spec.scaleTargetRef.name, spec.minReplicaCount]), [["decoder", 3], ["generator", 3]]);
  for (const object of ofKind(objects, "Deployment").filter(isOurs)) {
    assert.equal(object.spec.replicas, object.metadata.name === "tokenizer" ? 3 : undefined);
    assert.equal(podOf(object).topologySpreadConstraints[0].whenUnsatisfiable, "DoNotSchedule");
  }
});

test("a typing error in a manifest would not pass", { skip }, () => {
  const [first] = ofKind(render("cpu"), "Deployment");
  const broken = (change: (spec: Yaml) => void) => {
    const copy = structuredClone(first);
    change(copy.spec);
    return violations(copy);
  };
  assert.deepEqual(broken((spec) => (spec.template.spec.terminationGracePeriod = 3)), ["/spec/template/spec/terminationGracePeriod"]);
  assert.match(broken((spec) => (spec.replicas = "three"))[0], /replicas must be integer/);
});
