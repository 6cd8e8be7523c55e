// The look of the viewer, as a style sheet for its shadow tree: needs no inline style, so a strict policy allows it.

const CSS = `
:host { display: block; height: 560px; min-height: 240px; container-type: inline-size; color-scheme: light dark;
  --ink: light-dark(#1c1f24, #e3e6eb); --soft: light-dark(#5c636d, #98a0ab); --paper: light-dark(#fbfbfc, #17191d);
  --line: light-dark(#dcdfe4, #2b2f36); --well: light-dark(#eceef1, #22252b); --accent: light-dark(#1c5fd6, #6ea8ff); --bad: light-dark(#a61b1b, #ff8f86);
  font: 13px/1.4 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
:host([hidden]), [hidden] { display: none !important; }
:host([theme=dark]) { color-scheme: dark; }
:host([theme=light]) { color-scheme: light; }
* { box-sizing: border-box; }
.all { display: grid; height: 100%; grid-template: minmax(0, 1fr) auto auto / minmax(0, 1fr) auto;
  grid-template-areas: "stage panel" "axes panel" "status panel"; border: 1px solid var(--line); border-radius: 6px; overflow: hidden; background: var(--paper); }
.stage { grid-area: stage; position: relative; background: #16171a; min-height: 0; overflow: hidden; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block; touch-action: none; cursor: grab; outline: none; }
canvas:active { cursor: grabbing; }
.measuring canvas { cursor: crosshair; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
.stage:has(canvas:focus-visible)::after { content: ""; position: absolute; inset: 0; border: 2px solid #6ea8ff; pointer-events: none; }
.over { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; visibility: hidden; }
.over.on { visibility: visible; }
.mark { stroke: #ffd60a; stroke-width: 1.5; }
.tools { position: absolute; top: 8px; left: 8px; display: flex; gap: 1px; border-radius: 5px; overflow: hidden; background: #0e0f12cc; color: #e9ebef; }
.tool { font: inherit; color: inherit; background: none; border: 0; width: 30px; height: 30px; padding: 0; display: inline-grid; place-items: center; cursor: pointer; border-radius: 4px; }
.tool:hover { background: #8a919d40; }
.tool[aria-pressed=true] { background: var(--accent); color: light-dark(#fff, #0d1420); }
.tools .tool { border-radius: 0; }
.tools .tool[aria-pressed=true] { background: #6ea8ff; color: #0d1420; }
.icon { width: 16px; height: 16px; fill: none; stroke: currentColor; stroke-width: 1.5; stroke-linecap: round; stroke-linejoin: round; }
.scale { position: absolute; left: 14px; bottom: 12px; color: #fff; font-size: 12px; text-shadow: 0 0 3px #000, 0 0 2px #000; pointer-events: none; text-align: center; }
.scale .bar { height: 4px; background: #fff; box-shadow: 0 0 3px #000; }
.busy { position: absolute; left: 0; right: 0; top: 0; height: 2px; overflow: hidden; opacity: 0; transition: opacity .2s .25s; pointer-events: none; }
.busy.on { opacity: 1; }
.busy::before { content: ""; display: block; width: 30%; height: 100%; background: #6ea8ff; animation: slide 1.1s linear infinite; }
@keyframes slide { from { transform: translateX(-100%) } to { transform: translateX(340%) } }
@media (prefers-reduced-motion: reduce) { .busy::before { animation: none; width: 100%; opacity: .6 } }
.message { position: absolute; left: 50%; top: 50%; transform: translate(-50%, -50%); max-width: min(90%, 460px); padding: 12px 16px; border-radius: 6px; background: #0e0f12e6; color: #f0f1f4; text-align: center; overflow-wrap: anywhere; }
.message .quiet { color: #9cc2ff; margin-top: 6px; }
.note { top: auto; bottom: 40px; transform: translateX(-50%); padding: 8px 12px; }
.axes { grid-area: axes; padding: 4px 10px; border-top: 1px solid var(--line); }
.axis { display: flex; align-items: center; gap: 2px; min-height: 32px; }
.axis .title { min-width: 38px; color: var(--soft); }
.axis input { flex: 1; min-width: 60px; margin: 0 4px; }
.where { min-width: 104px; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; padding-right: 6px; }
.status { grid-area: status; display: flex; gap: 16px; justify-content: space-between; padding: 5px 12px; border-top: 1px solid var(--line); color: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; min-height: 29px; white-space: nowrap; overflow: hidden; }
.status output { overflow: hidden; text-overflow: ellipsis; }
.panel { grid-area: panel; width: 272px; overflow: auto; border-left: 1px solid var(--line); scrollbar-width: thin; }
section { padding: 10px 12px; border-bottom: 1px solid var(--line); }
section:last-child { border-bottom: 0; }
.head { display: flex; align-items: center; gap: 6px; margin-bottom: 4px; min-height: 24px; }
h2 { font: 600 12px/1.4 system-ui, sans-serif; margin: 0; flex: 1; color: var(--soft); }
.quiet { font: inherit; font-size: 12px; color: var(--accent); background: none; border: 0; padding: 3px 6px; border-radius: 4px; cursor: pointer; white-space: nowrap; }
.quiet:hover { background: var(--well); }
.quiet[aria-pressed=true] { background: var(--accent); color: light-dark(#fff, #0d1420); }
.choice { display: grid; grid-template-columns: 64px 1fr; align-items: center; margin: 2px 0; color: var(--soft); }
select, input[type=number], input[type=search] { font: inherit; color: var(--ink); background: var(--well); border: 1px solid var(--line); border-radius: 4px; padding: 3px 5px; min-width: 0; width: 100%; }
.search { margin-bottom: 6px; }
.channel { padding: 3px 0 5px; }
.line { display: flex; align-items: center; gap: 4px; min-height: 28px; }
.line.off .name { color: var(--soft); }
.name { display: flex; align-items: center; gap: 7px; flex: 1; min-width: 0; cursor: pointer; }
.name span:last-child { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.swatch { width: 10px; height: 10px; border-radius: 50%; background: var(--tint); box-shadow: 0 0 0 1px light-dark(#0003, #fff3); flex: none; }
.off .swatch { background: none; box-shadow: inset 0 0 0 1.5px var(--tint); }
.swatch[data-palette=rgb] { background: conic-gradient(#e33, #3b3, #36f, #e33); }
.swatch[data-palette=viridis] { background: linear-gradient(90deg, #440154, #21918c, #fde725); }
.swatch[data-palette=magma] { background: linear-gradient(90deg, #000004, #b5367a, #fcfdbf); }
.swatch[data-palette=inferno] { background: linear-gradient(90deg, #000004, #ba3655, #fcffa4); }
.swatch[data-palette=fire] { background: linear-gradient(90deg, #3a0078, #e62800, #fff); }
.swatch[data-palette=ice] { background: linear-gradient(90deg, #00204c, #14a0b4, #fff); }
.swatch[data-palette=inverted] { background: linear-gradient(90deg, #fff, #000); }
.value { font-variant-numeric: tabular-nums; text-align: right; min-width: 34px; color: var(--ink); font-size: 12px; white-space: nowrap; }
.value.rough { color: var(--soft); font-style: italic; }
.line .tool { width: 26px; height: 26px; color: var(--soft); }
.tool[aria-expanded=true] .icon { transform: rotate(180deg); }
.contrast { position: relative; height: 42px; margin: 0 1px 2px; }
.histogram { position: absolute; inset: 0 7px 10px; width: calc(100% - 14px); height: 32px; background: var(--well); border-radius: 3px; cursor: ew-resize; touch-action: none; }
.curve { fill: var(--soft); opacity: .75; }
.window { fill: var(--tint); opacity: .35; }
.contrast input { position: absolute; left: 0; right: 0; bottom: 2px; width: 100%; height: 16px; margin: 0; background: none; pointer-events: none; appearance: none; -webkit-appearance: none; }
.contrast input::-webkit-slider-runnable-track { background: none; }
.contrast input::-moz-range-track { background: none; }
.contrast input::-webkit-slider-thumb { pointer-events: auto; -webkit-appearance: none; width: 14px; height: 14px; border-radius: 50%; border: 2px solid var(--paper); background: var(--ink); cursor: ew-resize; }
.contrast input::-moz-range-thumb { pointer-events: auto; width: 11px; height: 11px; border-radius: 50%; border: 2px solid var(--paper); background: var(--ink); cursor: ew-resize; }
.contrast input:focus-visible { outline: none; }
.contrast input:focus-visible::-webkit-slider-thumb { outline: 2px solid var(--accent); outline-offset: 1px; }
.contrast input:focus-visible::-moz-range-thumb { outline: 2px solid var(--accent); outline-offset: 1px; }
.more { padding: 2px 0 4px 0; }
.field { display: grid; grid-template-columns: 56px 1fr; align-items: center; gap: 8px; min-height: 30px; color: var(--soft); }
.field > input { width: 100%; }
.pair { display: flex; gap: 6px; align-items: center; min-width: 0; }
.pair input[type=range] { flex: 1; min-width: 0; }
.pair input[type=color] { width: 36px; height: 26px; padding: 1px; border: 1px solid var(--line); border-radius: 4px; background: var(--well); flex: none; }
input[type=range], input[type=checkbox] { accent-color: var(--accent); }
.profile { position: absolute; right: 10px; bottom: 10px; width: 344px; max-width: calc(100% - 20px); background: #0e0f12e6; color: #eceef2; border: 0; border-radius: 6px; padding: 6px 12px 8px; }
.profile h2, .caption { color: #aab1bc; }
.profile .quiet { color: #9cc2ff; }
.chart { width: 100%; display: block; }
.chart text { fill: #aab1bc; font-size: 10px; }
.chart .line { fill: none; stroke-width: 1.3; }
.caption { margin: 2px 0 0; font-size: 12px; }
dialog { border: 1px solid var(--line); border-radius: 8px; background: var(--paper); color: var(--ink); padding: 14px 18px; }
dialog::backdrop { background: #0006; }
dl { display: grid; grid-template-columns: auto auto; gap: 4px 18px; margin: 8px 0 12px; }
dt { font-weight: 600; }
dd { margin: 0; color: var(--soft); }
.bare .panel, .bare .axes { display: none; }
@container (max-width: 640px) {
  .all { grid-template: minmax(180px, 1fr) auto auto auto / minmax(0, 1fr); grid-template-areas: "stage" "axes" "status" "panel"; }
  .panel { width: auto; border-left: 0; border-top: 1px solid var(--line); max-height: 244px; }
  .tool { width: 36px; height: 36px; }
  .line { min-height: 36px; }
  .axis { min-height: 40px; }
  .where { min-width: 84px; }
  .contrast input::-webkit-slider-thumb { width: 20px; height: 20px; }
  .desk { display: none; }
}
@container (min-width: 2000px) {
  .all { font-size: 20px; }
  h2, .quiet, .status, .value, .caption { font-size: 18px; }
  .scale { font-size: 22px; }
  .scale .bar { height: 7px; }
  .panel { width: 420px; }
  .tool { width: 46px; height: 46px; }
  .line .tool { width: 38px; height: 38px; }
  .icon { width: 24px; height: 24px; }
  .axis { min-height: 48px; }
  .axis .title { min-width: 60px; }
  .where { min-width: 170px; }
  .swatch { width: 15px; height: 15px; }
  .contrast input::-webkit-slider-thumb { width: 20px; height: 20px; }
  .field { grid-template-columns: 90px 1fr; }
}
@media (forced-colors: active) { .swatch, .scale .bar { forced-color-adjust: none; } }
`;

let sheet = null;

/** Give a shadow tree the look of the viewer. */
export function dress(root) {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
  }
  root.adoptedStyleSheets = [sheet];
}
