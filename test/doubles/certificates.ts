import { generateKeyPairSync, randomBytes, sign, type KeyObject } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A certificate and its key as PEM files, made for one test run. */
export interface CertificateFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

/** A certificate authority of the test's own. */
export interface Authority {
  /** Its certificate. */
  readonly caFile: string;
  /** A certificate for `localhost` and 127.0.0.1, for servers and clients alike. */
  issue(name: string): CertificateFiles;
}

const DAY_MS = 86_400_000;

/** An authority in a temporary folder that is removed when the process ends. Node makes keys but no certificates. */
export function certificateAuthority(name: string): Authority {
  const folder = mkdtempSync(join(tmpdir(), "tessera-ca-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const write = (file: string, text: string) => {
    writeFileSync(join(folder, file), text, { mode: 0o600 });
    return join(folder, file);
  };
  const issuer = { name, key: privateKey };
  return {
    caFile: write("ca.crt", certificate({ name, key: publicKey, isAuthority: true }, issuer)),
    issue(subject) {
      const keys = generateKeyPairSync("ec", { namedCurve: "P-256" });
      return {
        certFile: write(`${subject}.crt`, certificate({ name: subject, key: keys.publicKey, isAuthority: false }, issuer)),
        keyFile: write(`${subject}.key`, keys.privateKey.export({ type: "pkcs8", format: "pem" }) as string),
      };
    },
  };
}

/** An X.509 v3 certificate (RFC 5280) in PEM, good from yesterday until tomorrow, signed by ECDSA with SHA-256. */
function certificate(
  subject: { readonly name: string; readonly key: KeyObject; readonly isAuthority: boolean },
  issuer: { readonly name: string; readonly key: KeyObject },
): string {
  const algorithm = sequence(oid("2a8648ce3d040302"));
  const basicConstraints = extension("551d13", sequence(...(subject.isAuthority ? [der(0x01, Buffer.from([0xff]))] : [])));
  const names = extension("551d11", sequence(der(0x82, Buffer.from("localhost")), der(0x87, Buffer.from([127, 0, 0, 1]))));
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    algorithm, distinguishedName(issuer.name), sequence(time(-DAY_MS), time(DAY_MS)), distinguishedName(subject.name),
    subject.key.export({ type: "spki", format: "der" }),
    der(0xa3, sequence(basicConstraints, names)),
  );
  const signature = sign("sha256", body, issuer.key);
  const base64 = sequence(body, algorithm, der(0x03, Buffer.concat([Buffer.from([0]), signature]))).toString("base64");
  return `-----BEGIN CERTIFICATE-----\n${base64.match(/.{1,64}/g)!.join("\n")}\n-----END CERTIFICATE-----\n`;
}

/** One value in the distinguished encoding rules (X.690): tag, length, contents. */
function der(tag: number, contents: Buffer): Buffer {
  const { length } = contents;
  const bytes = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...bytes]), contents]);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts));
}

function oid(hex: string): Buffer {
  return der(0x06, Buffer.from(hex, "hex"));
}

function distinguishedName(name: string): Buffer {
  return sequence(der(0x31, sequence(oid("550403"), der(0x0c, Buffer.from(name)))));
}

function time(offsetMs: number): Buffer {
  const text = new Date(Date.now() + offsetMs).toISOString().replace(/[-:T]|\.\d+/g, "");
  return der(0x18, Buffer.from(text));
}

function extension(id: string, value: Buffer): Buffer {
  return sequence(oid(id), der(0x04, value));
}
