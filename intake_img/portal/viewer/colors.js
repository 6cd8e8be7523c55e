// Colours of channels, palettes, and colours of labels.

const DEFAULTS = ["22dd44", "e040fb", "18d6e8", "ffd60a", "ff3b30", "4d6dff", "ff9500", "ffffff"];
const STOPS = {
  viridis: ["440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725"],
  magma: ["000004", "1c1044", "4f127b", "812581", "b5367a", "e55064", "fb8761", "fec287", "fcfdbf"],
  inferno: ["000004", "1f0c48", "550f6d", "88226a", "ba3655", "e35933", "f98c0a", "f9c932", "fcffa4"],
  fire: ["000000", "3a0078", "a00078", "e62800", "ff8c00", "ffe600", "ffffff"],
  ice: ["000000", "00204c", "00608c", "14a0b4", "78dcdc", "ffffff"],
  inverted: ["ffffff", "000000"],
};

/** Colours that have a name, for people who do not see them. */
export const NAMED = {
  ffffff: "white", "22dd44": "green", e040fb: "magenta", "18d6e8": "cyan", ffd60a: "yellow", ff3b30: "red", "4d6dff": "blue", ff9500: "orange",
};
export const PALETTES = Object.keys(STOPS);

/** True if the channels are the colours of a picture. */
export const isRgb = (names) => ["R,G,B", "R,G,B,A"].includes(names.join());

/** Return a colour for each of the channels: as told, else the next one of a palette. */
export function channelColors(channels) {
  if (isRgb(channels.map((c) => c.name))) return ["ff0000", "00ff00", "0000ff", "000000"].slice(0, channels.length);
  const free = DEFAULTS.filter((color) => !channels.some((c) => c.color === color));
  return channels.map((c) => c.color ?? (channels.length === 1 ? "ffffff" : free.shift() ?? DEFAULTS[0]));
}

/** Return the colours "rrggbb" at even distances of a palette, or from black to a colour. */
export const stopsOf = (color) => STOPS[color] ?? ["000000", color];

const bytes = (hex) => [0, 2, 4].map((k) => parseInt(hex.slice(k, k + 2), 16));
const ramps = new Map();

/** Return 256 RGBA colours, from black to a colour "rrggbb", or of a palette. */
export function ramp(color) {
  if (!ramps.has(color)) ramps.set(color, mixed(stopsOf(color).map(bytes)));
  return ramps.get(color);
}

function mixed(stops) {
  const out = new Uint8Array(256 * 4);
  for (let k = 0; k < 256; k++) {
    const at = (k / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    for (let j = 0; j < 3; j++) out[4 * k + j] = Math.round(stops[low][j] + (at - low) * (stops[low + 1][j] - stops[low][j]));
    out[4 * k + 3] = 255;
  }
  return out;
}

/** Return the RGB colour, 0 to 255, of a label: hues a golden angle apart, as the shader has them. */
export function labelColor(label) {
  const n = label >>> 0;
  const hue = (Math.imul(n, 2654435769) >>> 0) / 2 ** 32;
  const [saturation, value] = [[0.55, 0.75, 0.95][n % 3], Math.floor(n / 3) % 2 ? 0.8 : 1];
  return [1, 2 / 3, 1 / 3].map((shift) => {
    const part = Math.abs(((hue + shift) % 1) * 6 - 3) - 1;
    return 255 * value * (1 + saturation * (Math.min(Math.max(part, 0), 1) - 1));
  });
}
