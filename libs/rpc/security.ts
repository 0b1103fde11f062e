import { readFileSync } from "node:fs";
import { pathEnv, stringEnv, type Env } from "#libs/config/env.js";
import { AppError } from "#libs/errors/errors.js";
import { readApiKeys, type ApiKey } from "./api-keys.js";
import { readTls, type Tls } from "./tls.js";

/** How a process guards its door and what it shows at others'. All is optional: without it, calls are open and in clear text. */
export interface Security {
  readonly tls?: Tls;
  /** The keys that open this process's services; undefined lets everyone in. */
  readonly keys?: readonly ApiKey[];
  /**
   * The key that this process shows when it calls another. A service shows its own and never its caller's: a caller's
   * key stays at the door it was made for, and its limits count once.
   */
  readonly ownKey?: string;
}

/**
 * Read TESSERA_TLS_* (see `readTls`), TESSERA_API_KEYS (file of the keys accepted), and TESSERA_API_KEY_FILE or
 * TESSERA_API_KEY (the own key).
 * @throws AppError `invalid-request` naming the variable, never a key.
 */
export function readSecurity(env: Env): Security {
  const tls = readTls(env);
  const keysFile = pathEnv(env, "TESSERA_API_KEYS", { type: "file", default: "" });
  const ownKeyFile = pathEnv(env, "TESSERA_API_KEY_FILE", { type: "file", default: "" });
  const ownKey = ownKeyFile === "" ? stringEnv(env, "TESSERA_API_KEY", { default: "" }) : readFileSync(ownKeyFile, "utf8").trim();
  // What a header can hold; anything else would fail at each call instead of at the start.
  if (!/^[\x21-\x7e]*$/.test(ownKey)) {
    throw new AppError("invalid-request", "TESSERA_API_KEY must be printable ASCII without spaces");
  }
  return {
    ...(tls && { tls }),
    ...(keysFile !== "" && { keys: readApiKeys(keysFile) }),
    ...(ownKey !== "" && { ownKey }),
  };
}
