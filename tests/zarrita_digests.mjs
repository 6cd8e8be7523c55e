// Reads Zarr arrays with zarrita (https://github.com/manzt/zarrita.js), and prints what it found as JSON.
// Run where zarrita is installed: node --input-type=module - ADDRESS ... < zarrita_digests.mjs

import { createHash } from "node:crypto";
import * as zarr from "zarrita";

async function read(address) {
  const array = await zarr.open.v3(new zarr.FetchStore(address), { kind: "array" });
  const { data } = await zarr.get(array);
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const digest = createHash("sha256").update(bytes).digest("hex");
  return { shape: array.shape, dtype: array.dtype, names: array.dimensionNames, digest };
}

const told = {};
for (const address of process.argv.filter((text) => text.startsWith("http://"))) {
  told[address] = await read(address).catch((error) => ({ error: String(error) }));
}
console.log(JSON.stringify(told));
