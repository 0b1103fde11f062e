import { X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import type { experimental } from "@grpc/grpc-js";
import { RELOAD_MS, ReloadingFiles } from "#libs/config/reloading-files.js";
import { AppError } from "#libs/errors/errors.js";

/** Where certificates lie, in PEM; what is left out is not shown, or not trusted by file. */
export interface CertificatePaths {
  /** What this process shows of itself, and its key. */
  readonly own?: { readonly cert: string; readonly key: string };
  /** Who signs those we trust. */
  readonly ca?: string;
}

type CaListener = experimental.CaCertificateUpdateListener;
type IdentityListener = experimental.IdentityCertificateUpdateListener;

/** What connections are told. */
interface Certificates {
  readonly identity: experimental.IdentityCertificateUpdate | null;
  readonly ca: experimental.CaCertificateUpdate;
}

/**
 * Certificates for connections to come, reloaded from their files while somebody uses them. Connections that are open stay,
 * at most `MAX_CONNECTION_AGE_MS`.
 */
export class CertificateFiles implements experimental.CertificateProvider {
  readonly #files: ReloadingFiles<Certificates>;
  readonly #caListeners = new Set<CaListener>();
  readonly #identityListeners = new Set<IdentityListener>();
  #latest: Certificates;
  #timer: NodeJS.Timeout | undefined;

  /** @throws AppError `invalid-request` naming the variable whose file is wrong. */
  constructor({ own, ca }: CertificatePaths) {
    const paths = [...(own ? [own.cert, own.key] : []), ...(ca === undefined ? [] : [ca])];
    this.#files = new ReloadingFiles(paths, (files) => (own ? parse(files[2], files[0], files[1]) : parse(files[0])));
    this.#latest = this.#files.latest;
  }

  addCaCertificateListener(listener: CaListener): void {
    this.#caListeners.add(listener);
    this.#watch();
    // Not within the call: whoever adds it is not ready to pass it on.
    process.nextTick(() => listener(this.#latest.ca));
  }

  removeCaCertificateListener(listener: CaListener): void {
    this.#caListeners.delete(listener);
    this.#watch();
  }

  addIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.add(listener);
    this.#watch();
    process.nextTick(() => listener(this.#latest.identity));
  }

  removeIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.delete(listener);
    this.#watch();
  }

  #watch(): void {
    if (this.#caListeners.size + this.#identityListeners.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    } else if (this.#timer === undefined) {
      this.#timer = setInterval(() => this.#reload(), RELOAD_MS).unref();
      this.#reload();
    }
  }

  #reload(): void {
    if (!this.#files.reload()) return;
    this.#latest = this.#files.latest;
    const { identity, ca } = this.#latest;
    for (const listener of this.#identityListeners) listener(identity);
    for (const listener of this.#caListeners) listener(ca);
  }
}

function parse(ca: Buffer | undefined, certificate?: Buffer, privateKey?: Buffer): Certificates {
  check("TESSERA_TLS_CA must hold certificates in PEM", () => ca && new X509Certificate(ca));
  check("TESSERA_TLS_CERT and TESSERA_TLS_KEY must hold a certificate in PEM and its key", () => {
    createSecureContext({ cert: certificate, key: privateKey });
  });
  return {
    identity: certificate && privateKey ? { certificate, privateKey } : null,
    // Who is told of no authority trusts those of Node, NODE_EXTRA_CA_CERTS among them.
    ca: { caCertificate: ca as Buffer },
  };
}

function check(rule: string, isRight: () => unknown): void {
  try {
    isRight();
  } catch (error) {
    throw new AppError("invalid-request", rule, { cause: error });
  }
}
