import { philox4x32 } from "#libs/random/philox.js";

/** Whole numbers below a limit, one after the other; the same for the same name. */
export function dice(name: number): (limit: number) => number {
  const words = new Uint32Array(4);
  let thrown = 0;
  return (limit) => {
    philox4x32(thrown++, name, 0, 0, 3, 4, words);
    return words[0] % limit;
  };
}
