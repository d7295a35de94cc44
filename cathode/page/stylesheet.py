"""The style sheet of the pages: light and dark, phone to print, no outside resources."""

from __future__ import annotations

__all__ = ["STYLESHEET"]

STYLESHEET = """
:root {
  color-scheme: light dark;
  --back: #f6f7f9; --paper: #ffffff; --ink: #1b2330; --soft: #5b6675; --line: #dfe3e9; --accent: #0072b2;
  --good: #00795a; --good-back: #e2f4ee; --warn: #8a5a00; --warn-back: #fdf1d8; --bad: #b03a00; --bad-back: #fde8df;
  --info: #35506b; --info-back: #e7eff7; --code: #f1f3f6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #12161c; --paper: #1a2029; --ink: #e4e8ee; --soft: #9aa6b5; --line: #303946; --accent: #62b6e8;
    --good: #5fd3ae; --good-back: #12362c; --warn: #f0c161; --warn-back: #3a2d10; --bad: #ff9a6b; --bad-back: #42200f;
    --info: #a9c7e6; --info-back: #1d2f42; --code: #131920;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
.layout { max-width: 1280px; margin: 0 auto; padding: 0 24px 64px; }
header.top { padding: 36px 0 8px; }
header.top h1 { margin: 0; font-size: 1.05rem; font-weight: 600; letter-spacing: .02em; color: var(--soft); }
header.top p { margin: 2px 0 0; color: var(--soft); font-size: .92rem; }
nav { position: sticky; top: 0; z-index: 2; background: var(--back); border-bottom: 1px solid var(--line);
  margin-bottom: 8px; padding: 10px 0; display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: .88rem; }
nav a { color: var(--soft); text-decoration: none; white-space: nowrap; }
nav a:hover, nav a:focus { color: var(--accent); }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 22px 26px;
  margin-top: 20px; scroll-margin-top: 56px; }
section > h2 { margin: 0 0 6px; font-size: 1.3rem; line-height: 1.3; }
section h3 { margin: 24px 0 6px; font-size: 1.02rem; }
p { margin: 8px 0; max-width: 78ch; }
.soft, figcaption, .lead { color: var(--soft); }
.lead { margin-top: 0; max-width: 100ch; }
.banner { border-radius: 12px; padding: 24px 26px; margin-top: 20px; border-left: 7px solid currentColor; }
.banner h2 { margin: 6px 0 8px; font-size: 1.75rem; line-height: 1.25; }
.banner p { color: var(--ink); margin: 4px 0; }
.good { color: var(--good); background: var(--good-back); } .warn { color: var(--warn);
    background: var(--warn-back); }
.bad { color: var(--bad); background: var(--bad-back); } .info { color: var(--info); background: var(--info-back); }
.badge { display: inline-block; border-radius: 99px; padding: 1px 11px; font-size: .84rem; font-weight: 650;
  white-space: nowrap; }
.banner .badge { border: 1px solid currentColor; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(205px, 1fr)); gap: 14px; margin-top: 16px; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px; }
.card .label { color: var(--soft); font-size: .82rem; }
.card .value { font-size: 1.28rem; font-weight: 650; line-height: 1.3; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.card .note { color: var(--soft); font-size: .82rem; }
.scroll { overflow-x: auto; margin: 12px 0; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; color: var(--soft); font-size: .88rem; padding-top: 8px; }
th { text-align: left; color: var(--soft); font-weight: 600; font-size: .84rem; vertical-align: bottom; }
th, td { padding: 7px 12px 7px 0; border-bottom: 1px solid var(--line); }
td { vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
.num { text-align: right; white-space: nowrap; }
.num em { white-space: normal; }
td.wide { min-width: 16rem; color: var(--soft); }
tr.strong td { font-weight: 650; }
.bar { display: block; height: 9px; border-radius: 5px; background: var(--accent); min-width: 2px; }
figure { margin: 16px 0 4px; }
figure img { display: block; width: 100%; height: auto; background: #ffffff; border-radius: 8px; padding: 8px; }
figure.medium { max-width: 860px; margin-left: auto; margin-right: auto; }
figcaption { font-size: .88rem; margin-top: 6px; max-width: 88ch; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 8px 22px;
    align-items: start; }
.callout { border-radius: 8px; padding: 10px 16px; margin: 12px 0; border-left: 5px solid currentColor; }
.callout p { color: var(--ink); }
pre { background: var(--code); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px;
  overflow: auto; max-height: 34rem;
    font: .84rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
ul { margin: 8px 0; padding-left: 1.3em; } li { margin: 3px 0; max-width: 88ch; overflow-wrap: anywhere; }
footer { color: var(--soft); font-size: .85rem; margin-top: 24px; }
@media (max-width: 640px) {
  .layout { padding: 0 12px 40px; } section, .banner { padding: 16px 14px; } .banner h2 { font-size: 1.35rem; }
  nav { position: static; }
}
@media print {
  :root { color-scheme: light; --back: #fff; --paper: #fff; --ink: #000; --soft: #444; --line: #bbb;
    --accent: #0072b2;
    --good: #00694e; --good-back: #fff; --warn: #7a5000; --warn-back: #fff; --bad: #9a3300; --bad-back: #fff;
    --info: #35506b; --info-back: #fff; --code: #fff; }
  body { font-size: 10.5pt; } .layout { max-width: none; padding: 0; } nav { display: none; }
  section, .banner, .card { border-radius: 0; } section { border: 0; border-top: 1px solid #bbb; padding: 12px 0; }
  figure, .card, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  pre { max-height: none; white-space: pre-wrap; overflow: visible; } .scroll { overflow: visible; }
  table { font-size: 8.5pt; } figure.medium { max-width: 15cm; }
}
"""
