#include "report/html.h"

namespace fusedmlp::report {

// Colours are from the Okabe-Ito family, which colour-blind readers tell apart; text on its ground has a contrast of
// at least 4.5, and every coloured part is also named, numbered or hatched.
std::string_view style_sheet() {
  return R"css(
:root{color-scheme:light dark;--page:#f6f6f2;--card:#fff;--ink:#17191c;--soft:#565d66;--line:#dcddd6;--wash:#eeeee8;
--accent:#0a5f73;--good:#0b6b45;--good-wash:#dff2e8;--hold:#6a4a00;--hold-wash:#f7ebcf;--warn:#8f2d14;--warn-wash:#fbe6de;
--gemm:#2f67b1;--intermediate:#cf7416;--other:#7c828a;--launch:#b3314f;--sync:#7a4fb0;--warmup:#8c7300;--idle:#8b9199;
--on-part:#fff;--shadow:0 1px 2px rgb(0 0 0/.05),0 8px 24px rgb(0 0 0/.04)}
@media (prefers-color-scheme:dark){:root{--page:#101215;--card:#181b1f;--ink:#e9ebee;--soft:#a5adb7;--line:#2d3239;
--wash:#20242a;--accent:#6fd0e3;--good:#7ddcae;--good-wash:#12352a;--hold:#ecc978;--hold-wash:#352b13;--warn:#f4a78f;
--warn-wash:#3b1e15;--gemm:#7aaaf0;--intermediate:#f0a55a;--other:#9aa2ac;--launch:#f0839b;--sync:#bd9bf0;
--warmup:#d9bf4e;--idle:#7d858f;--on-part:#0d0f12;--shadow:none}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%;scroll-padding-top:4rem}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",
"Liberation Sans",sans-serif;font-variant-numeric:tabular-nums}
.wrap{max-width:70rem;margin:0 auto;padding:0 1.25rem}
a{color:var(--accent);text-underline-offset:.15em}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px;border-radius:4px}
.skip{position:absolute;left:-99rem;top:0;background:var(--card);padding:.6rem 1rem;z-index:9}
.skip:focus{left:.5rem;top:.5rem}
header{padding:2.75rem 0 1.5rem}
.brand{margin:0;font-size:.82rem;font-weight:650;letter-spacing:.06em;color:var(--accent)}
h1{margin:.5rem 0 .4rem;font-size:clamp(1.65rem,1.1rem + 2.6vw,2.75rem);line-height:1.14;letter-spacing:-.022em;
font-weight:700;max-width:24ch;text-wrap:balance}
.subject{margin:0;color:var(--soft);overflow-wrap:anywhere}
.lead{max-width:68ch;margin:1.25rem 0 0}
.lead p{margin:.2rem 0}
nav{position:sticky;top:0;z-index:5;background:var(--page);
border-bottom:1px solid var(--line)}
nav ul{display:flex;gap:.25rem;list-style:none;margin:0 auto;padding:.35rem 1rem;max-width:70rem;overflow-x:auto}
nav a{display:block;padding:.4rem .65rem;border-radius:8px;text-decoration:none;color:var(--soft);font-size:.92rem;
white-space:nowrap}
nav a:hover{background:var(--wash);color:var(--ink)}
section{margin:2.75rem 0}
h2{font-size:1.4rem;letter-spacing:-.012em;margin:0 0 .35rem}
h2+p{margin-top:0}
.about code{white-space:nowrap}
.about{color:var(--soft);max-width:68ch;margin:.1rem 0 1.1rem}
th,td,dd,p,summary{overflow-wrap:break-word}
td details{margin:0}
td summary,th summary{font-weight:400;font-size:.88rem;padding:0}
h1,h3,caption{overflow-wrap:anywhere}
h3{font-size:1.1rem;margin:0;letter-spacing:-.005em;overflow-wrap:anywhere}
h4{font-size:.95rem;margin:1.4rem 0 .5rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:1.25rem;box-shadow:var(--shadow);
margin:0 0 1.1rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(10.5rem,1fr));gap:.9rem;margin:1.6rem 0 0;padding:0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:.9rem 1.1rem;
box-shadow:var(--shadow);margin:0}
.tile dt{color:var(--soft);font-size:.86rem}
.tile dd{margin:0}
.tile .value{font-size:1.65rem;font-weight:680;letter-spacing:-.02em;line-height:1.25}
.tile .note{color:var(--soft);font-size:.86rem}
.badge{display:inline-block;border-radius:99px;padding:.1rem .65rem;font-size:.85rem;font-weight:620;white-space:nowrap}
.badge.fuse{background:var(--good-wash);color:var(--good)}
.badge.unknown{background:var(--wash);color:var(--soft)}
.badge.leave{background:var(--hold-wash);color:var(--hold)}
.advice{list-style:none;margin:0;padding:0}
.advice li{padding:.8rem 0;border-top:1px solid var(--line)}
.advice li:first-child{border-top:0;padding-top:0}
.advice li:last-child{padding-bottom:0}
.advice p{margin:.2rem 0 0;max-width:80ch}
.warn{background:var(--warn-wash);color:var(--warn);border-radius:12px;padding:.75rem 1.1rem;margin:1.2rem 0 0}
.warn h2{font-size:1rem;margin:0}
.warn ul{margin:.25rem 0 0;padding-left:1.2rem;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;font-size:.93rem}
caption{text-align:left;color:var(--soft);font-size:.88rem;padding:0 0 .5rem}
th,td{padding:.5rem .6rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
thead th{color:var(--soft);font-weight:560;font-size:.85rem;white-space:nowrap;vertical-align:bottom}
tbody tr:last-child>*{border-bottom:0}
tbody th{font-weight:600}
.num{text-align:right;white-space:nowrap}
.scroll{overflow-x:auto}
code{font:.86em/1.45 ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace;overflow-wrap:anywhere;
color:var(--soft)}
.head{display:flex;flex-wrap:wrap;gap:.5rem .8rem;align-items:center;justify-content:space-between;margin:0 0 .4rem}
.reason{margin:.1rem 0 1rem;max-width:80ch}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(8.2rem,1fr));gap:.7rem 1rem;margin:0 0 1.1rem}
.facts div{border-left:2px solid var(--line);padding-left:.65rem}
.facts dt{color:var(--soft);font-size:.82rem}
.facts dd{margin:0;font-weight:600}
svg{display:block;width:100%;font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",sans-serif}
svg svg{display:inline}
.axis{stroke:var(--line)}
.tick{fill:var(--soft);font-size:11px;paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}
.products{fill:var(--gemm);background:var(--gemm)}
.passes{fill:var(--intermediate);background:var(--intermediate)}
.rest{fill:var(--other);background:var(--other)}
.whole{fill:var(--good);background:var(--good)}
.on{fill:var(--on-part);font-weight:600;font-size:11.5px;text-anchor:middle}
.on.short{display:none}
.gap{fill:url(#hatch)}
.gap-edge{fill:none;stroke:var(--launch);stroke-opacity:.35}
.edge{fill:none;stroke:var(--card);stroke-width:1}
.chip{display:inline-block;width:.75rem;height:.75rem;border-radius:3px;margin-right:.4rem;vertical-align:-.06rem}
.bars{display:grid;gap:1.15rem}
.bars .row{display:grid;grid-template-columns:minmax(9rem,15rem) 1fr 5.5rem;gap:.2rem .9rem;align-items:center}
.bars .name{font-weight:600;overflow-wrap:anywhere;font-size:.95rem}
.bars .total{text-align:right;font-weight:600}
.bars .parts{grid-column:2/-1;color:var(--soft);font-size:.86rem}
.bar{display:flex;height:1.6rem;border-radius:7px;overflow:hidden;background:var(--wash);gap:1px}
.bar span{min-width:2px;flex-basis:0;flex-shrink:1}
.part-gemm{background:var(--gemm)}.part-intermediate{background:var(--intermediate)}.part-other{background:var(--other)}
.part-mlp{background:var(--accent)}
.part-launch,.part-sync,.part-warmup,.part-idle{background:repeating-linear-gradient(var(--turn,135deg),var(--tint) 0 3px,
var(--card) 3px 6px)}
.part-launch{--tint:var(--launch)}.part-sync{--tint:var(--sync);--turn:45deg}.part-warmup{--tint:var(--warmup);--turn:90deg}
.part-idle{--tint:var(--idle);--turn:0deg}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;list-style:none;margin:0 0 1.1rem;padding:0;font-size:.88rem;
color:var(--soft)}
.roof{stroke:var(--ink);stroke-width:2;stroke-linecap:round}
.grid{stroke:var(--line);stroke-width:1}
.zone{fill:var(--soft);font-size:11.5px}
.now{fill:var(--card);stroke:var(--intermediate);stroke-width:2.5}
.then{fill:var(--good);stroke:var(--card);stroke-width:1.5}
.step{stroke:var(--good);stroke-width:1.75;stroke-dasharray:4 4}
.mark{fill:var(--ink);font-weight:650;paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
details{margin:.9rem 0 0}
summary{cursor:pointer;color:var(--accent);font-weight:560;padding:.25rem 0}
.pair{display:grid;grid-template-columns:minmax(4rem,auto) minmax(60%,1fr);gap:.6rem .9rem;align-items:start;margin:.6rem 0 1rem}
.pair>b{padding-top:.55rem;overflow-wrap:anywhere}
.pair>div{min-width:0}
.better{color:var(--good);font-weight:620}
.worse{color:var(--warn);font-weight:620}
dl.terms{display:grid;gap:.8rem;margin:0}
dl.terms dt{font-weight:620}
dl.terms dd{margin:0;color:var(--soft);max-width:80ch}
footer{border-top:1px solid var(--line);color:var(--soft);font-size:.88rem;padding:1.25rem 0 2.5rem;margin-top:3.5rem}
.vh{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
@media (max-width:720px){
.wrap{padding:0 1rem}header{padding-top:1.75rem}.card{padding:1rem}
.tiles{grid-template-columns:1fr 1fr;gap:.6rem}.tile{padding:.7rem .85rem}.tile .value{font-size:1.35rem}
.bars .row{grid-template-columns:1fr auto}.bars .bar,.bars .parts{grid-column:1/-1}.bars .bar{grid-row:2}
.pair{grid-template-columns:minmax(0,1fr);gap:.1rem}
.on.long{display:none}.on.short{display:inline}
table.stack,table.stack tbody,table.stack tr,table.stack td,table.stack th{display:block}
table.stack thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
table.stack caption{display:block}
table.stack tr{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:0 1.5rem;padding:.7rem 0;border-bottom:1px solid var(--line)}
table.stack th,table.stack td:not([data-label]){grid-column:1/-1}
table.stack td:has(.badge){grid-column:1/-1}
table.stack tbody tr:last-child{border-bottom:0}
table.stack td,table.stack th{overflow-wrap:anywhere;border:0;padding:.12rem 0;text-align:left;white-space:normal}
table.stack td[data-label]{display:flex;justify-content:space-between;gap:1rem}
table.stack td[data-label]::before{content:attr(data-label);color:var(--soft);font-weight:400}
table.stack td[data-label]>*{text-align:right}}
@media print{nav,.skip{display:none}body{background:#fff}.card,.tile{box-shadow:none;break-inside:avoid}}
)css";
}

}  // namespace fusedmlp::report
