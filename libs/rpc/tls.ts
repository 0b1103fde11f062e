import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { ChannelCredentials, ServerCredentials } from "@grpc/grpc-js";
import { choiceEnv, pathEnv, type Env } from "#libs/config/env.js";
import { AppError } from "#libs/errors/errors.js";

/** Certificates in PEM: what this process shows of itself, and whom it trusts. */
export interface Tls {
  /** Shown to clients, and to servers that ask for it. With it a server speaks TLS and nothing else. */
  readonly own?: { readonly cert: Buffer; readonly key: Buffer };
  /** Who signs those we trust; undefined with `trustsSystem`. */
  readonly ca?: Buffer;
  /** Trust whom Node trusts. */
  readonly trustsSystem: boolean;
  /** Clients must show a certificate that the CA has signed (mutual TLS). */
  readonly requiresClientCert: boolean;
}

/** In place of a file: the authorities that come with Node. */
const SYSTEM = "system";

/**
 * Read TESSERA_TLS_CERT and TESSERA_TLS_KEY (a server speaks TLS with them), TESSERA_TLS_CA (a client speaks TLS with it;
 * `system` for public authorities) and TESSERA_TLS_CLIENTS (`required`: mutual TLS). Files are read once: a renewed
 * certificate takes a restart.
 * @returns undefined if none is set.
 * @throws AppError `invalid-request` naming the variable that is missing or wrong.
 */
export function readTls(env: Env): Tls | undefined {
  const file = (name: string) => {
    const path = pathEnv(env, name, { type: "file", default: "" });
    return path === "" ? undefined : readFileSync(path);
  };
  const cert = file("TESSERA_TLS_CERT");
  const key = file("TESSERA_TLS_KEY");
  const trustsSystem = env["TESSERA_TLS_CA"] === SYSTEM;
  const ca = trustsSystem ? undefined : file("TESSERA_TLS_CA");
  const clients = choiceEnv(env, "TESSERA_TLS_CLIENTS", { choices: ["any", "required"], default: "any" });
  if (!cert && !key && !ca && !trustsSystem && clients === "any") return undefined;
  if (Boolean(cert) !== Boolean(key)) throw wrong("TESSERA_TLS_CERT and TESSERA_TLS_KEY must be set together");
  if (clients === "required" && !(cert && ca)) {
    throw wrong("TESSERA_TLS_CLIENTS=required needs TESSERA_TLS_CERT, TESSERA_TLS_KEY and a file in TESSERA_TLS_CA");
  }
  check("TESSERA_TLS_CA must hold certificates in PEM", () => ca && new X509Certificate(ca));
  check("TESSERA_TLS_CERT and TESSERA_TLS_KEY must hold a certificate in PEM and its key", () => {
    createSecureContext({ cert, key });
  });
  return {
    ...(cert && key && { own: { cert, key } }), ...(ca && { ca }), trustsSystem,
    requiresClientCert: clients === "required",
  };
}

/** How a server proves who it is; in clear text without a certificate of its own. */
export function serverCredentials(tls: Tls | undefined): ServerCredentials {
  if (tls?.own === undefined) return ServerCredentials.createInsecure();
  const { own: { cert, key }, ca, requiresClientCert } = tls;
  return ServerCredentials.createSsl(ca ?? null, [{ cert_chain: cert, private_key: key }], requiresClientCert);
}

/** How a client proves who it is and whom it believes; in clear text if it trusts nobody. */
export function channelCredentials(tls: Tls | undefined): ChannelCredentials {
  if (tls?.ca === undefined && !tls?.trustsSystem) return ChannelCredentials.createInsecure();
  const { ca = null, own } = tls;
  return ChannelCredentials.createSsl(ca, own?.key ?? null, own?.cert ?? null);
}

function check(rule: string, parse: () => unknown): void {
  try {
    parse();
  } catch (error) {
    throw wrong(rule, error);
  }
}

function wrong(message: string, cause?: unknown): AppError {
  return new AppError("invalid-request", message, { cause });
}
