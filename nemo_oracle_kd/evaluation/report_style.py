# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The frame of a report: one column, system fonts, and light or dark colours as the reader's device prefers."""

import html
from collections.abc import Sequence

STYLE = """
:root { color-scheme: light dark; --ground: #f7f6f3; --card: #ffffff; --ink: #20262f; --soft: #626b78; --line: #e3e1db;
  --mark: #e9f2fb; --accent: #1f6fbf; --code: #f1efea; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171c; --card: #1b1f26; --ink: #e4e7eb; --soft: #9aa4b2;
  --line: #2d333d; --mark: #1d2d40; --accent: #6cb0f5; --code: #12151a; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.55; font-size: 16px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif; }
header, main { max-width: 1000px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 44px; }
h1 { font-size: clamp(1.6rem, 4.5vw, 2.3rem); line-height: 1.15; letter-spacing: -0.02em; margin: 0 0 10px; }
h2 { font-size: 1.2rem; letter-spacing: -0.01em; margin: 0 0 12px; }
.lead { font-size: 1.1rem; color: var(--soft); margin: 0 0 22px; max-width: 46em; }
p { margin: 0 0 12px; max-width: 46em; }
.headline { font-size: 1.12rem; font-weight: 550; border-left: 3px solid var(--soft); padding-left: 14px; margin: 0 0 18px; }
.headline.better { border-color: var(--accent); }
.tiles { list-style: none; display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 0 0 18px; padding: 0; }
.tiles li { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px; }
.tiles b { display: block; font-size: 1.6rem; letter-spacing: -0.02em; line-height: 1.2; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.tiles li:first-child b { color: var(--accent); }
.tiles span { color: var(--soft); font-size: 0.84rem; line-height: 1.35; display: block; margin-top: 2px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 0.9rem; padding-bottom: 6px; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 22px 24px;
  margin: 18px 0; scroll-margin-top: 12px; }
main { padding-bottom: 60px; }
.scroll { overflow-x: auto; margin: 0 -24px 8px; padding: 0 24px; }
table { border-collapse: collapse; width: 100%; font-size: 0.93rem; font-variant-numeric: tabular-nums; }
th, td { padding: 8px 10px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child { text-align: left; padding-left: 8px; white-space: normal; min-width: 10em; }
.words th, .words td { text-align: left; white-space: normal; }
thead th { white-space: normal; vertical-align: bottom; color: var(--soft); font-weight: 600; font-size: 0.82rem; }
tbody th { font-weight: 500; }
.marked th, .marked td { background: var(--mark); font-weight: 650; }
.marked th { border-radius: 8px 0 0 8px; } .marked td:last-child { border-radius: 0 8px 8px 0; }
.note, figcaption { color: var(--soft); font-size: 0.87rem; max-width: 54em; }
figure { margin: 16px 0 8px; }
figcaption { margin-top: 6px; }
.plot { overflow-x: auto; }
.plot svg { display: block; width: 100%; min-width: 560px; height: auto; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 0 28px; margin: 6px 0 0; }
dl div { display: flex; justify-content: space-between; gap: 16px; border-bottom: 1px solid var(--line); padding: 6px
0; } dt { color: var(--soft); } dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
dl { font-size: 0.92rem; }
summary { cursor: pointer; color: var(--accent); }
.verdict { font-size: 1.05rem; border-left: 3px solid var(--accent); padding-left: 14px; }
pre { background: var(--code); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; overflow-x:
  auto; font-size: 0.86rem; line-height: 1.5; margin: 0; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
@media (max-width: 600px) { header, main { padding-left: 12px; padding-right: 12px; } header { padding-top: 26px; }
  section { padding: 16px 14px; border-radius: 12px; } .scroll { margin: 0 -14px 8px; padding: 0 14px; } }
@media print { body { background: #fff; } section { break-inside: avoid; border: 0; padding: 0; } nav { display: none;
} }
"""


def page_html(title: str, lead: str, sections: Sequence[tuple[str, str, str]], top: str = '') -> str:
    """Makes a complete page.

    Args:
        title: plain text.
        lead: a sentence or two below the title, plain text.
        sections: anchor, title (plain text) and content (HTML) of each section.
        top: HTML below the lead.
    """
    contents = ''.join(f'<a href="#{key}">{html.escape(heading)}</a>' for key, heading, _ in sections)
    main = ''.join(
        f'<section id="{key}"><h2>{html.escape(heading)}</h2>{body}</section>' for key, heading, body in sections
    )
    lead = f'<p class="lead">{html.escape(lead)}</p>' if lead else ''
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{html.escape(title)}</title>'
        f'<style>{STYLE}</style></head><body><header><h1>{html.escape(title)}</h1>{lead}'
        f'{top}<nav>{contents}</nav></header><main>{main}</main></body></html>\n'
    )
