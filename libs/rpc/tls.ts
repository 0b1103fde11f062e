import { ChannelCredentials, experimental, ServerCredentials } from "@grpc/grpc-js";
import { choiceEnv, pathEnv, type Env } from "#libs/config/env.js";
import { AppError } from "#libs/errors/errors.js";
import { CertificateFiles } from "./certificates.js";

/** What this process shows of itself, and whom it trusts. */
export interface Tls {
  readonly certificates: CertificateFiles;
  /** There is a certificate to show to clients, and to servers that ask for it: a server speaks TLS and nothing else. */
  readonly showsOwn: boolean;
  /** Calls are made by TLS. */
  readonly trusts: boolean;
  /** Clients must show a certificate that the CA has signed (mutual TLS). */
  readonly requiresClientCert: boolean;
}

/** In place of a file: the authorities that come with Node. */
const SYSTEM = "system";

/**
 * Read TESSERA_TLS_CERT and TESSERA_TLS_KEY (a server speaks TLS with them), TESSERA_TLS_CA (a client speaks TLS with it;
 * `system` for public authorities) and TESSERA_TLS_CLIENTS (`required`: mutual TLS). Renewed files are taken up.
 * @returns undefined if none is set.
 * @throws AppError `invalid-request` naming the variable that is missing or wrong.
 */
export function readTls(env: Env): Tls | undefined {
  const path = (name: string) => pathEnv(env, name, { type: "file", default: "" }) || undefined;
  const cert = path("TESSERA_TLS_CERT");
  const key = path("TESSERA_TLS_KEY");
  const trustsSystem = env["TESSERA_TLS_CA"] === SYSTEM;
  const ca = trustsSystem ? undefined : path("TESSERA_TLS_CA");
  const clients = choiceEnv(env, "TESSERA_TLS_CLIENTS", { choices: ["any", "required"], default: "any" });
  if (!cert && !key && !ca && !trustsSystem && clients === "any") return undefined;
  const own = cert && key ? { cert, key } : undefined;
  if (!own && (cert || key)) throw new AppError("invalid-request", "TESSERA_TLS_CERT and TESSERA_TLS_KEY must be set together");
  if (clients === "required" && !(own && ca)) {
    throw new AppError("invalid-request",
      "TESSERA_TLS_CLIENTS=required needs TESSERA_TLS_CERT, TESSERA_TLS_KEY and a file in TESSERA_TLS_CA");
  }
  return {
    certificates: new CertificateFiles({ ...(own && { own }), ...(ca && { ca }) }),
    showsOwn: own !== undefined, trusts: trustsSystem || ca !== undefined, requiresClientCert: clients === "required",
  };
}

/** How a server proves who it is; in clear text without a certificate of its own. */
export function serverCredentials(tls: Tls | undefined): ServerCredentials {
  if (!tls?.showsOwn) return ServerCredentials.createInsecure();
  const { certificates, requiresClientCert } = tls;
  return experimental.createCertificateProviderServerCredentials(
    certificates, requiresClientCert ? certificates : null, requiresClientCert,
  );
}

/** How a client proves who it is and whom it believes; in clear text if it trusts nobody. */
export function channelCredentials(tls: Tls | undefined): ChannelCredentials {
  if (!tls?.trusts) return ChannelCredentials.createInsecure();
  const { certificates, showsOwn } = tls;
  return experimental.createCertificateProviderChannelCredentials(certificates, showsOwn ? certificates : null);
}
