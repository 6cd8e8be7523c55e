// How the values of tiles are distributed: sorted samples, limits of contrast, counts for a picture of them.

const MOST = 65536; // values that are looked at
const SHARES = [0.002, 0.998];

/** Return finite values of tiles, evenly taken, sorted, as a Float64Array. */
export function sampleOf(tiles) {
  const total = tiles.reduce((n, tile) => n + tile.data.length, 0);
  const step = Math.max(1, Math.floor(total / MOST) | 1); // odd: even widths would show single columns
  const out = new Float64Array(Math.ceil(total / step) + tiles.length);
  let n = 0;
  for (const { data } of tiles) {
    for (let k = 0; k < data.length; k += step) {
      const value = Number(data[k]);
      if (Number.isFinite(value)) out[n++] = value;
    }
  }
  return out.subarray(0, n).sort();
}

/** Return limits {lo, hi} between which nearly all values of a sorted sample lie. */
export function limitsOf(sample) {
  const at = (share) => sample[Math.round(share * (sample.length - 1))];
  const [lo, hi] = SHARES.map(at);
  if (hi > lo) return { lo, hi };
  const most = sample.at(-1); // few bright pixels on nothing, or a constant
  return { lo, hi: most > lo ? most : lo + 1 };
}

/** Return counts of a sorted sample in `bins` equal parts of a range, as heights from 0 to 1 (square roots). */
export function heights(sample, lo, hi, bins) {
  const counts = new Array(bins).fill(0);
  for (const value of sample) {
    const bin = Math.floor(((value - lo) / (hi - lo || 1)) * bins);
    counts[Math.min(Math.max(bin, 0), bins - 1)]++;
  }
  const most = Math.max(...counts.slice(1, -1), 1);
  return counts.map((count) => Math.min(1, Math.sqrt(count / most)));
}
