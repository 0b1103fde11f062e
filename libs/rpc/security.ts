import { pathEnv, stringEnv, type Env } from "#libs/config/env.js";
import { ReloadingFiles, type Reloading } from "#libs/config/reloading-files.js";
import { AppError } from "#libs/errors/errors.js";
import { parseApiKeys, type ApiKey } from "./api-keys.js";
import { readTls, type Tls } from "./tls.js";

/** How a process guards its door and what it shows at others'. All is optional: without it, calls are open and in clear text. */
export interface Security {
  readonly tls?: Tls;
  /** The keys that open this process's services; undefined lets everyone in. */
  readonly keys?: Reloading<readonly ApiKey[]>;
  /**
   * The key that this process shows when it calls another. A service shows its own and never its caller's: a caller's
   * key stays at the door it was made for, and its limits count once.
   */
  readonly ownKey?: Reloading<string>;
}

/**
 * Read TESSERA_TLS_* (see `readTls`), TESSERA_API_KEYS (file of the keys accepted), and TESSERA_API_KEY_FILE or
 * TESSERA_API_KEY (the own key). Changed files are taken up.
 * @throws AppError `invalid-request` naming the variable, never a key.
 */
export function readSecurity(env: Env): Security {
  const tls = readTls(env);
  const keysFile = pathEnv(env, "TESSERA_API_KEYS", { type: "file", default: "" });
  const ownKeyFile = pathEnv(env, "TESSERA_API_KEY_FILE", { type: "file", default: "" });
  const ownKey = stringEnv(env, "TESSERA_API_KEY", { default: "" });
  return {
    ...(tls && { tls }),
    ...(keysFile !== "" && { keys: new ReloadingFiles([keysFile], ([file]) => parseApiKeys(keysFile, String(file))) }),
    ...(ownKey !== "" && { ownKey: { latest: checkKey("TESSERA_API_KEY", ownKey) } }),
    ...(ownKeyFile !== "" && { ownKey: new ReloadingFiles([ownKeyFile], ([file]) => checkKey("TESSERA_API_KEY_FILE", String(file).trim())) }),
  };
}

/** @throws AppError for what a header can't hold: it would fail at each call instead of at the start. */
function checkKey(variable: string, key: string): string {
  if (/^[\x21-\x7e]+$/.test(key)) return key;
  throw new AppError("invalid-request", `${variable} must hold a key of printable ASCII without spaces`);
}
