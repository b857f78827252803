"""The style sheet of the report; its plots, saved alone, carry it too."""

STYLE = """
:root { --ink: #1c2733; --soft: #5b6b7b; --line: #dde4ea; --paper: #fff; --wash: #f5f8fa;
  --after: #0b7a75; --before: #9aa8b5; --random: #c2571a; --up: #5468c9; --warn: #9c2f1f;
  --other-1: #8e4fa3; --other-2: #9a7b0a; --other-3: #c0447a; --other-4: #7a5a44; --other-5: #3f7d20; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9fb0c0; --line: #32404d;
  --paper: #141b22; --wash: #1b242d; --after: #3cc4b4; --before: #7d8d9b; --random: #f0904f;
  --up: #93a4f5; --warn: #ff9b87;
  --other-1: #c792dc; --other-2: #d9b93f; --other-3: #f08ab5; --other-4: #c4a28a; --other-5: #8fcf6a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--wash); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 28px 20px 60px; }
header { padding: 8px 4px 12px; }
h1 { margin: 0; font-size: 30px; letter-spacing: -0.02em; }
.sub { margin: 0 0 10px; color: var(--soft); font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
h2 { margin: 0 0 10px; font-size: 19px; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 22px; margin: 16px 0; }
.lesson { border-left: 4px solid var(--after); padding: 6px 12px; background: var(--wash); }
.warning { border-left: 4px solid var(--warn); padding: 6px 12px; color: var(--warn); }
.note { color: var(--soft); font-size: 14px; margin: 10px 0 0; }
ul, ol { padding-left: 22px; }
.stages li { margin: 4px 0; }
code { font-size: 0.92em; background: var(--wash); padding: 1px 4px; border-radius: 4px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: 10px 0; font-size: 15px; }
th { text-align: right; font-weight: 600; color: var(--soft); border-bottom: 2px solid var(--line);
  padding: 6px 10px; }
td { text-align: right; border-bottom: 1px solid var(--line); padding: 6px 10px;
  font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); gap: 18px; }
svg { width: 100%; height: auto;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
svg text { fill: var(--soft); font-size: 11.5px; }
svg text.title { fill: var(--ink); font-size: 13.5px; font-weight: 600; }
svg text.value { fill: var(--ink); }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg line.random { stroke: var(--random); stroke-width: 2; stroke-dasharray: 5 4; }
svg .dot.before { fill: var(--paper); stroke: var(--before); stroke-width: 2; }
svg .dot.after { fill: var(--after); }
svg .whisker { stroke-width: 1.6; }
svg .whisker.after { stroke: var(--after); }
svg .whisker.before { stroke: var(--before); }
svg polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .line-1 { stroke: var(--after); } svg .dot.line-1 { fill: var(--after); }
svg .line-2 { stroke: var(--up); } svg .dot.line-2 { fill: var(--up); }
svg .line-3 { stroke: var(--other-1); } svg .dot.line-3 { fill: var(--other-1); }
svg .line-4 { stroke: var(--other-2); } svg .dot.line-4 { fill: var(--other-2); }
svg .line-5 { stroke: var(--other-3); } svg .dot.line-5 { fill: var(--other-3); }
svg .line-6 { stroke: var(--other-4); } svg .dot.line-6 { fill: var(--other-4); }
svg .line-7 { stroke: var(--other-5); } svg .dot.line-7 { fill: var(--other-5); }
svg .dot.hollow { fill: var(--paper); stroke-width: 2; }
svg rect.up { fill: var(--up); } svg rect.down { fill: var(--after); }
"""
