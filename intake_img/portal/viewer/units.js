// Units, round lengths, and how numbers are written for people.

const SYMBOLS = {
  angstrom: "Å", nanometer: "nm", micrometer: "µm", micron: "µm", millimeter: "mm", centimeter: "cm", meter: "m", kilometer: "km",
  second: "s", millisecond: "ms", microsecond: "µs", minute: "min", hour: "h", day: "d",
};
const METRES = { Å: 1e-10, nm: 1e-9, "µm": 1e-6, mm: 1e-3, cm: 1e-2, m: 1, km: 1e3 };
const SHOWN = ["nm", "µm", "mm", "m"];

/** Return the symbol of a unit that NGFF or the library names; null if there is none. */
export const lengthUnit = (name) => (name ? SYMBOLS[name] ?? name : null);

/** Return how many `to` make one `from`; null where one is no length. */
export const ratio = (from, to) => (METRES[from] && METRES[to] ? METRES[from] / METRES[to] : null);

/** Return the largest 1, 2 or 5 times a power of ten that is at most `most`. */
export function round(most) {
  const power = 10 ** Math.floor(Math.log10(most) + 1e-9);
  return [5, 2, 1].find((digit) => digit * power <= most * (1 + 1e-9)) * power;
}

/** Return {pixels, text} of a scale bar at most `room` screen pixels long.
 *  `perPixel` is the length of one screen pixel in `unit`; without a unit it counts pixels of the image. */
export function scaleBar(perPixel, unit, room) {
  if (!METRES[unit]) {
    const length = round(perPixel * room);
    return { pixels: length / perPixel, text: `${number(length)} ${unit ?? "px"}` };
  }
  const metres = perPixel * METRES[unit];
  const length = round(metres * room * 1e9) / 1e9;
  const symbol = SHOWN.findLast((each) => METRES[each] <= length * (1 + 1e-9)) ?? "nm";
  return { pixels: length / metres, text: `${number(length / METRES[symbol])} ${symbol}` };
}

/** Write a number with about `digits` significant digits, never in more than it needs. */
export function number(value, digits = 6) {
  if (typeof value === "bigint" || Number.isInteger(value)) return String(value);
  if (!Number.isFinite(value)) return String(value);
  const text = Number(value.toPrecision(digits));
  return Math.abs(text) >= 1e7 || (text && Math.abs(text) < 1e-4) ? text.toExponential() : String(text);
}
