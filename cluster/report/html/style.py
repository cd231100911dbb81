"""The style sheet of a report, and the script that refreshes a watched one."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1c2024; --soft: #5b646e; --rule: #dfe3e7; --grid: #e8ebee;
  --s0: #1f6fb2; --s1: #c2410c; --s2: #15803d; --s3: #7c3aed; --good: #15803d; --bad: #b91c1c; --warn: #a16207;
  --s4: #be185d; --s5: #57534e;
  --layer: #e7f0f9; --layer-edge: #8fb3d3; --other: #f3ecfb; --other-edge: #b79bd8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1d2125; --ink: #e6e9ec; --soft: #9aa4ae; --rule: #353b42; --grid: #2b3036;
    --s0: #6cb4f0; --s1: #fb923c; --s2: #4ade80; --s3: #c4a5fd; --good: #4ade80; --bad: #f87171; --warn: #facc15;
    --s4: #f472b6; --s5: #a8a29e;
    --layer: #1f3245; --layer-edge: #47729a; --other: #33284a; --other-edge: #7a5fa8;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 20px 20px 60px; }
h1 { font-size: 25px; margin: 6px 0 2px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 38px 0 4px; padding-top: 12px; border-top: 1px solid var(--rule); }
h3 { font-size: 15px; margin: 20px 0 6px; }
p { margin: 4px 0 10px; max-width: 78ch; }
a { color: var(--s0); }
code, pre { font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
pre { overflow-x: auto; max-height: 380px; margin: 8px 0; padding: 10px; background: var(--page);
  border: 1px solid var(--rule); border-radius: 6px; }
pre.command { white-space: pre-wrap; }
.soft, .note, .open { color: var(--soft); }
.badge { display: inline-block; padding: 1px 10px; border-radius: 10px; font-size: 13px; font-weight: 600;
  border: 1px solid currentColor; vertical-align: 4px; margin-left: 8px; }
.badge.finished, .mark.yes { color: var(--good); }
.badge.failed { color: var(--bad); }
.badge.running { color: var(--s0); }
.badge.stopped, .mark.partly { color: var(--warn); }
nav { font-size: 13px; display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 8px 0 14px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 10px; margin: 14px 0; }
.tile { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 8px 12px; }
.tile b { display: block; font-size: 21px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 12.5px; display: block; line-height: 1.35; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 360px), 1fr)); gap: 12px; }
.charts.two { grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); }
.smalls { display: grid; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); gap: 10px; }
figure { margin: 0; }
.chart, .card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 10px 12px;
  min-width: 0; }
figcaption { font-size: 14px; line-height: 1.35; margin-bottom: 4px; }
figcaption .note { font-size: 12.5px; }
.small figcaption { font-size: 12.5px; color: var(--soft); margin-bottom: 2px; }
.chart svg { display: block; width: 100%; height: auto; }
.small svg { display: block; width: 100%; border: 1px solid var(--rule); border-radius: 3px; background: var(--card); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 12.5px; color: var(--soft); margin: 2px 0 4px; }
.key { white-space: nowrap; }
.swatch { display: inline-block; width: 13px; height: 13px; border-radius: 2px; margin-right: 5px; vertical-align: -2px;
  background: var(--fill); }
.swatch.line { height: 0; width: 18px; border-top: 3px solid var(--fill); background: none; vertical-align: 3px; }
.swatch.dot { border-radius: 50%; width: 9px; height: 9px; vertical-align: 0; background: var(--s0); opacity: .6; }
.s0 { --fill: var(--s0); } .s1 { --fill: var(--s1); } .s2 { --fill: var(--s2); } .s3 { --fill: var(--s3); }
.s4 { --fill: var(--s4); } .s5 { --fill: var(--s5); } .level { --fill: var(--soft); }
.swatch.s1, .swatch.s3, .swatch.s5 { border-top-style: dashed; }
.swatch.again1 { border-top-style: dotted; }
.swatch.again2 { border-top-style: double; }
svg text { fill: var(--ink); font: 11.5px system-ui, "DejaVu Sans", sans-serif; }
svg .tick { fill: var(--soft); font-size: 11px; }
svg .label { fill: var(--soft); font-size: 12px; }
svg .middle { text-anchor: middle; }
svg .end { text-anchor: end; }
svg .grid { stroke: var(--grid); fill: none; }
svg .axis { stroke: var(--soft); fill: none; }
svg .curve { fill: none; stroke: var(--fill); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg .curve.s1 { stroke-dasharray: 6 4; }
svg .curve.s3 { stroke-dasharray: 2 4; }
svg .curve.s5 { stroke-dasharray: 10 3 2 3; }
svg .curve.again1 { stroke-width: 3; stroke-dasharray: 0.1 6; }
svg .curve.again2 { stroke-dasharray: 14 5; }
svg .curve.level { stroke-width: 1; }
svg .point { fill: var(--fill); }
svg .spread { fill: var(--fill); opacity: .16; stroke: none; }
svg .area { fill: var(--s0); opacity: .75; }
svg .dot { fill: var(--s0); opacity: .45; }
svg .front { fill: var(--card); stroke: var(--s1); stroke-width: 2; }
svg .cell, svg .strip { fill: var(--s0); }
.o0 { --fill: #440154; } .o1 { --fill: #472d7b; } .o2 { --fill: #3b528b; } .o3 { --fill: #2c728e; }
.o4 { --fill: #21918c; } .o5 { --fill: #28ae80; } .o6 { --fill: #5ec962; } .o7 { --fill: #addc30; }
.o8 { --fill: #fde725; }
svg .band { fill: var(--fill); stroke: none; }
table { border-collapse: collapse; font-size: 14px; }
th, td { text-align: left; padding: 3px 14px 3px 0; vertical-align: top; border-bottom: 1px solid var(--rule);
  overflow-wrap: break-word; }
th { font-weight: 600; white-space: nowrap; }
thead th { color: var(--soft); font-size: 12.5px; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.scroll { overflow-x: auto; }
table.bars { width: 100%; }
table.bars th { font-weight: 400; width: 45%; white-space: normal; }
.wide { width: 45%; vertical-align: middle; }
.bar { height: 10px; min-width: 2px; background: var(--s0); border-radius: 2px; }
.champions { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 380px), 1fr)); gap: 12px;
  align-items: start; }
.card h3 { margin: 0 0 2px; }
summary { cursor: pointer; }
.picture summary { list-style: none; }
.picture summary::-webkit-details-marker { display: none; }
.picture .hint { display: block; font-size: 12.5px; color: var(--s0); }
.picture[open] .shut, .picture:not([open]) .opened { display: none; }
.drawn { display: block; overflow-x: auto; }
svg.network { display: block; max-width: 100%; height: auto; margin: 6px 0; }
.drawn b, .rows b { display: block; font-size: 13px; font-weight: 600; margin-top: 6px; }
.rows span { display: block; font-size: 13px; color: var(--soft); }
.parts { display: flex; flex-wrap: wrap; gap: 4px 32px; }
.parts .drawn { max-width: 100%; }
.card:has(svg.cell), .card:has(svg.blocks) { grid-column: 1 / -1; }
svg .layer { fill: var(--layer); stroke: var(--layer-edge); }
svg .layer.end { fill: none; stroke: var(--soft); stroke-dasharray: 4 3; }
svg .layer.max-pool, svg .layer.avg-pool, svg .layer.global-avg-pool, svg .layer.batch-norm,
svg .layer.local-contrast-norm { fill: var(--other); stroke: var(--other-edge); }
svg .layer.other { fill: var(--other); stroke: var(--other-edge); }
svg .layer.frame { fill: var(--card); stroke: var(--soft); }
svg .layer-number { fill: var(--soft); }
svg .state { fill: var(--s1); font-weight: 600; }
svg .wire { stroke: var(--soft); fill: none; stroke-width: 1.5; }
svg .wire.again { stroke-dasharray: 4 3; stroke: var(--s1); }
svg .wire.older { stroke: var(--s1); }
svg .wire.newer { stroke: var(--s0); }
svg .layer.end.older { stroke: var(--s1); }
svg .layer.end.newer { stroke: var(--s0); }
svg .skip { stroke: var(--s1); fill: none; stroke-width: 1.3; opacity: .6; }
svg .skip:hover { opacity: 1; stroke-width: 3; }
.mark { font-weight: 600; white-space: nowrap; }
.mark.open { color: var(--soft); }
mark { background: none; color: var(--s1); font-weight: 600; }
footer { margin-top: 40px; font-size: 12.5px; color: var(--soft); }
@media (max-width: 560px) {
  main { padding: 12px 12px 40px; }
  h1 { font-size: 21px; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .tile b { font-size: 18px; }
  .smalls { grid-template-columns: 1fr 1fr; }
}
@media print {
  :root { color-scheme: light; --page: #fff; --card: #fff; --ink: #000; --soft: #444; --rule: #bbb; --grid: #ddd;
    --s0: #1f6fb2; --s1: #c2410c; --s2: #15803d; --s3: #7c3aed; --good: #15803d; --bad: #b91c1c; --warn: #a16207;
    --s4: #be185d; --s5: #57534e;
    --layer: #e7f0f9; --layer-edge: #8fb3d3; --other: #f3ecfb; --other-edge: #b79bd8; }
  @page { margin: 14mm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { font-size: 11px; }
  main { max-width: none; padding: 0; }
  nav, .picture .hint { display: none; }
  svg.cell { min-width: 0 !important; }
  .tiles { grid-template-columns: repeat(5, 1fr); gap: 6px; }
  .tile { padding: 5px 8px; }
  .tile b { font-size: 15px; }
  .tile span { font-size: 9.5px; }
  .charts, .champions { grid-template-columns: 1fr 1fr; }
  .smalls { grid-template-columns: repeat(7, 1fr); gap: 6px; }
  .small svg { max-height: 52px; }
  .chart, .card, .tile, .small, .kind, tr, p { break-inside: avoid; }
  .card:has(details[open]) { break-inside: auto; }
  h2, h3, .soft, .legend { break-after: avoid; }
  pre { max-height: none; white-space: pre-wrap; }
  pre.json { display: none; }
  .drawn, .scroll { overflow: visible; }
  table, thead th { font-size: 11px; }
  th, td { padding-right: 9px; }
  thead th { white-space: normal; }
  svg.network { max-height: 135mm; }
}
"""

SVG_STYLE = "\n".join(
    [
        STYLE.partition("* {")[0],
        *(line for line in STYLE.splitlines() if line.startswith("svg ")),
        "svg .title { font-weight: 600; font-size: 14px; }",
        "svg .page { fill: var(--card); }",
    ]
)
"""The style sheet of an SVG file: the page's colours, and the rules of what is in a drawing."""

REFRESH_S = 3
"""Seconds after which a watched page requests a new version."""

# Open details stay open; if the server does not answer (the command has ended), the page stays as it is.
SCRIPT = """
(function () {
  async function refresh() {
    try {
      const answer = await fetch(location.pathname, {cache: "no-store"});
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const main = page.querySelector("main");
        for (const shown of document.querySelectorAll("details[open][id]")) {
          const next = main.querySelector("#" + CSS.escape(shown.id));
          if (next) next.open = true;
        }
        document.querySelector("main").replaceWith(document.adoptNode(main));
        document.title = page.title;
        if (!page.querySelector("script")) return;
      }
    } catch (error) {
      document.documentElement.dataset.stale = "yes";
    }
    setTimeout(refresh, REFRESH_MS);
  }
  setTimeout(refresh, REFRESH_MS);
})();
""".replace("REFRESH_MS", str(1000 * REFRESH_S))
