/*
 * style.c
 *	  The report's style sheet.
 *
 * Node colours are Okabe and Ito's, told apart by colour-blind readers too;
 * the heat ramp has one hue and grows away from the background.  Paper is
 * always light.
 */
#include "postgres.h"

#include "report/report.h"

static const char light_colors[] =
":root{--bg:#f6f7f9;--card:#fff;--ink:#1b2530;--soft:#5a6875;--line:#dfe4e9;"
"--grid:#e9edf1;--accent:#0b62a4;--warn:#8a4b00;--warnbg:#fff4e0;"
"--n1:#0072b2;--n2:#d55e00;--n3:#00825f;--n4:#b4568f;--n5:#b07d00;"
"--n6:#3d9bd6;--n7:#6b4fa0;--n8:#6a7680;"
"--h0:#f3f6f9;--h1:#dbe9f6;--h2:#b9d6ee;--h3:#88bbe0;--h4:#559bcc;"
"--h5:#2b7ab6;--h6:#0d5799;--h7:#083370;--own:#1b2530;"
"--t1:#1b2530;--t2:#c2185b;--t3:#8a97a3;--t4:#7a5fb5;--t5:#2e7d6b}\n";

static const char dark_colors[] =
":root{--bg:#0f151b;--card:#171f27;--ink:#e6ebf0;--soft:#9aa8b5;--line:#2c3742;"
"--grid:#25303a;--accent:#6db8f2;--warn:#ffcf8a;--warnbg:#33270f;"
"--n1:#4fa8e0;--n2:#f0874a;--n3:#33b893;--n4:#db8dbb;--n5:#e0b23c;"
"--n6:#8fd0fa;--n7:#a993dc;--n8:#a7b2bc;"
"--h0:#1c252e;--h1:#17344e;--h2:#1a466c;--h3:#215d8f;--h4:#3179b3;"
"--h5:#5699d0;--h6:#8abfe9;--h7:#d3ebff;--own:#e6ebf0;"
"--t1:#e6ebf0;--t2:#ff6f9f;--t3:#8a97a3;--t4:#b39ae6;--t5:#6fc7b2}\n";

static const char layout[] =
"*{box-sizing:border-box}\n"
"body{margin:0;background:var(--bg);color:var(--ink);"
"font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',"
"'DejaVu Sans',sans-serif}\n"
"main{max-width:1060px;margin:0 auto;padding:24px 20px 48px}\n"
"h1{font-size:26px;line-height:1.2;margin:0 0 4px}\n"
"h2{font-size:18px;margin:0 0 2px}\n"
"h3{font-size:14px;margin:20px 0 4px}\n"
"p{margin:4px 0}\n"
".lead,.sub,.note{color:var(--soft)}\n"
".lead{margin-bottom:12px;max-width:75ch}.note{font-size:13px}\n"
"section{background:var(--card);border:1px solid var(--line);"
"border-radius:8px;padding:18px 20px;margin:18px 0}\n"
".warn{background:var(--warnbg);color:var(--warn);border-radius:6px;"
"padding:8px 12px;margin:12px 0}\n"
".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(220px,1fr));"
"gap:12px;margin:18px 0}\n"
".tile{background:var(--card);border:1px solid var(--line);"
"border-radius:8px;padding:12px 14px}\n"
".tile b{display:block;font-size:24px;line-height:1.25;font-weight:600;"
"font-variant-numeric:tabular-nums}\n"
".tile span{color:var(--soft);font-size:13px;display:block;line-height:1.35}\n"
".tile .what{font-size:13px;color:var(--ink);font-weight:600}\n"
"nav{font-size:14px;margin-top:8px;display:flex;flex-wrap:wrap;gap:2px 16px}"
"nav a{"
"color:var(--accent);text-decoration:none;white-space:nowrap}"
"nav a:hover{text-decoration:underline}\n"
".wide{overflow-x:auto}.wide>svg{min-width:720px}\n"
".pair{display:grid;grid-template-columns:repeat(auto-fill,"
"minmax(min(100%,440px),1fr));gap:14px 20px}\n"
"figure{margin:0}figure+figure{margin-top:14px}"
".pair figure+figure{margin:0}figcaption{font-size:13px;font-weight:600}\n"
"figcaption span{font-weight:400;color:var(--soft)}\n"
"svg{display:block;width:100%;height:auto;"
"font-size:11px;font-family:inherit;overflow:visible}\n"
".legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:13px;"
"color:var(--soft);margin:4px 0 8px}\n"
".legend span{display:inline-flex;align-items:center;gap:6px}\n"
".key{display:inline-block;width:14px;height:10px;border-radius:2px}"
".key.h{width:22px;border-radius:0;height:12px}"
".key.ln{height:0;border-radius:0;border-top:2.5px solid;width:20px}"
".key.dash{border-top-style:dashed}\n"
"table{border-collapse:collapse;width:100%;font-size:13px}\n"
"caption{text-align:left;font-weight:600;padding:4px 0}\n"
"th,td{text-align:left;padding:4px 8px 4px 0;vertical-align:top;"
"border-bottom:1px solid var(--grid)}\n"
"th{color:var(--soft);font-weight:600;white-space:nowrap}\n"
".num{text-align:right;white-space:nowrap;"
"font-variant-numeric:tabular-nums}\n"
".nw{white-space:nowrap}.why{min-width:240px}\n"
"tr.first td{border-bottom:0;padding-bottom:0}"
"tr.why td{color:var(--soft);padding-top:0;padding-bottom:6px}\n"
"tr.set td{font-weight:600}\n"
"td svg{margin-top:4px}\n"
"td .dot{display:inline-block;width:9px;height:9px;border-radius:50%;"
"margin-right:6px}\n";

static const char charts[] =
"svg text{fill:var(--soft)}svg .e{text-anchor:end}svg .m{text-anchor:middle}\n"
"svg .row{fill:var(--ink)}svg .head{fill:var(--ink);font-weight:600;"
"font-size:12px}\n"
"svg .grid{stroke:var(--grid);fill:none}svg .base{stroke:var(--soft);"
"fill:none;stroke-opacity:.6}\n"
"svg .lab{font-weight:600}\n"
".ln{fill:none;stroke-width:1.8;stroke-linejoin:round}\n"
".dash{stroke-dasharray:4 3}.thin{stroke-width:1.3}\n"
".area{stroke:none;fill-opacity:.22}\n"
".all{stroke:var(--ink);stroke-width:2.4}.lab.all,svg .lab.all"
"{fill:var(--ink);stroke:none}\n"
".ref{stroke:var(--soft);stroke-dasharray:2 3;fill:none}svg .lab.ref"
"{fill:var(--soft);stroke:none}\n"
".bg{fill:var(--h0)}.own{fill:none;stroke:var(--own);stroke-width:2}\n"
".unknown{fill:var(--line)}\n"
".ko{border-top:2px solid var(--own);height:0}\n"
".mv{fill:none;stroke-opacity:.75}\n"
".t1{stroke:var(--t1)}.t2{stroke:var(--t2)}.t3{stroke:var(--t3)}"
".t4{stroke:var(--t4)}.t5{stroke:var(--t5)}\n"
".d1{fill:var(--t1)}.d2{fill:var(--t2)}.d3{fill:var(--t3)}"
".d4{fill:var(--t4)}.d5{fill:var(--t5)}.bad{fill:none;stroke:var(--ink);stroke-width:1.6}\n";

static const char print[] =
"@media print{@page{margin:12mm}body{background:#fff;font-size:12px}"
"main{max-width:none;padding:0}nav{display:none}"
"section{border:0;padding:0;margin:14px 0}"
"figure,tr,.tile,svg{break-inside:avoid}h2,h3,.lead,.legend,.note{break-after:avoid}"
".wide{overflow:visible}.wide>svg{min-width:0}"
"*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}\n"
"@media (max-width:600px){main{padding:14px 10px 32px}"
"section{padding:14px 12px}h1{font-size:22px}"
".tiles{grid-template-columns:1fr 1fr;gap:8px}.tile b{font-size:20px}}\n";

void
fa_report_style(StringInfo out)
{
	appendStringInfoString(out, light_colors);
	appendStringInfo(out, "@media screen and (prefers-color-scheme:dark){%s}\n",
					 dark_colors);
	appendStringInfoString(out, layout);
	appendStringInfoString(out, charts);
	for (int i = 1; i <= FA_REPORT_MAX_NODES; i++)
		appendStringInfo(out, ".n%d{stroke:var(--n%d)}.a%d{fill:var(--n%d)}"
						 ".b%d{background:var(--n%d);color:var(--n%d)}"
						 "svg .lab.n%d{fill:var(--n%d);stroke:none}\n",
						 i, i, i, i, i, i, i, i, i);
	for (int i = 1; i <= FA_CHART_HEAT_LEVELS; i++)
		appendStringInfo(out, ".h%d{fill:var(--h%d);background:var(--h%d)}\n",
						 i, i, i);
	appendStringInfoString(out, print);
}
