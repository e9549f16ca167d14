"use strict";
// Everything a model wrote enters the document as a text node (textContent or append), never as markup.

const $ = (id) => document.getElementById(id);
const PAGE = 50, LONG = 20000;
const RIGHT = "w", WRONG = "l", TIE = "t", ERROR = "e", ABSENT = "-", SCORED = "s";
const MARK = { w: "✓", l: "✗", t: "=", e: "!", "-": "·", s: "•", g: "·", d: "·" };
const WORD = { w: "right", l: "wrong", t: "tie", e: "no answer", "-": "not judged", s: "scored", g: "graded as a tie: not counted",
  d: "tie: not counted" };
// Characters that would act on the text around them instead of showing.
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

let data = null, texts = null, textsWanted = null, haystack = null;
let found = [], at = 0, open = -1;

function make(tag, props, ...children) {
  const node = document.createElement(tag);
  Object.assign(node, props || {});
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

async function unpack(id) {
  const raw = atob($(id).textContent.trim());
  const bytes = Uint8Array.from(raw, (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function wanted() {
  textsWanted ??= unpack("text-blob").then((t) => { texts = t; $("text-blob").textContent = ""; });
  return textsWanted;
}

// Ties to even, as in the other formats: 81.25 is 81.2 everywhere.
const oneDecimal = new Intl.NumberFormat("en", {
  minimumFractionDigits: 1, maximumFractionDigits: 1, roundingMode: "halfEven", useGrouping: false,
});
const percent = (v) => (v === null || v === undefined ? "–" : oneDecimal.format(100 * v));
const short = (v) => (v === null || v === undefined ? "–" : Number.isInteger(v) ? String(v) : Number(v.toPrecision(4)).toString());

function addText(node, text) {
  let last = 0;
  for (const hit of text.matchAll(CONTROL)) {
    if (hit.index > last) node.append(text.slice(last, hit.index));
    const code = "U+" + hit[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    node.append(make("span", { className: "control", title: "a control character, shown", textContent: code }));
    last = hit.index + hit[0].length;
  }
  node.append(text.slice(last));
}

function textBlock(text) {
  const node = make("pre", { className: "text", dir: "auto", tabIndex: 0 });
  addText(node, text.slice(0, LONG));
  if (text.length <= LONG) return node;
  const more = make("button", { type: "button", textContent: `Show all ${text.length.toLocaleString("en")} characters` });
  more.onclick = () => { addText(node, text.slice(LONG)); more.remove(); };
  return make("div", {}, node, more);
}

// Leaderboard

function sortBy(button) {
  const th = button.closest("th"), table = th.closest("table"), column = [...th.parentNode.children].indexOf(th);
  const before = th.getAttribute("aria-sort");
  const down = before ? before === "ascending" : button.dataset.first === "desc";
  for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", down ? "descending" : "ascending");
  const numeric = button.dataset.sort === "num";
  const key = (row) => (numeric ? row.cells[column].dataset.v : row.dataset.name);
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((r) => r.dataset.name !== undefined);
    rows.sort((x, y) => {
      const [a, b] = [key(x), key(y)];
      if (numeric && (a === "" || b === "")) return (a === "") - (b === "");  // the undefined stay last
      const order = numeric ? a - b : a.localeCompare(b, "en");
      return down ? -order : order;
    });
    body.append(...rows);
  }
}

function startBoard() {
  for (const button of $("board").tHead.querySelectorAll("button")) button.onclick = () => sortBy(button);
  if ($("columns")) $("columns").onchange = () => {
    for (const cell of $("board").querySelectorAll("[data-group]")) cell.hidden = cell.dataset.group !== $("columns").value;
  };
  $("model-filter").oninput = () => {
    const part = $("model-filter").value.toLowerCase();
    for (const row of $("board").querySelectorAll("tr[data-name]")) row.hidden = !row.dataset.name.toLowerCase().includes(part);
  };
  for (const link of $("board").querySelectorAll("a.model")) link.addEventListener("click", () => {
    const index = data ? data.models.findIndex((m) => m.label === link.closest("tr").dataset.name) : -1;
    if (index >= 0) { $("model-pick").value = index; showModel(); }
  });
}

// One model

function head(table, names, left = []) {
  const cell = (n, i) => make("th", { scope: "col", textContent: n, className: i && n && !left.includes(n) ? "r" : "" });
  table.replaceChildren(make("thead", {}, make("tr", {}, ...names.map(cell))));
  return table.appendChild(make("tbody"));
}

function bar(value, low, high) {
  const node = make("span", { className: "bar" });
  if (value === null || value < 0 || value > 1) return node;
  if (low !== null && high !== null) {
    const line = make("i");
    line.style.left = `${100 * low}%`;
    line.style.width = `${100 * (high - low)}%`;
    node.append(line);
  }
  const dot = make("b");
  dot.style.left = `${100 * value}%`;
  node.append(dot);
  return node;
}

function showModel() {
  const model = data.models[$("model-pick").value], own = new Map(), further = [];
  for (const e of model.estimates) own.has(e[0]) ? further.push(e) : own.set(e[0], e);
  const names = ["Scope", "Score", "", "95% interval", "n", "Wins", "Ties", "Losses", "Missing", "Truncated", "Interval by"];
  const body = head($("model-table"), names, ["95% interval", "Interval by"]);
  for (const [scope, name, depth] of data.scopes) {
    const e = own.get(scope);
    if (!e) continue;
    const [, metric, value, low, high, n, missing, wins, ties, losses, truncated, method, reason] = e;
    const label = `${"\u2003".repeat(depth)}${name}${metric === "accuracy" ? "" : ` (${metric})`}`;
    const row = make("tr", { className: depth ? "" : "strong" }, make("th", { scope: "row", textContent: label }),
      make("td", { className: "r", textContent: percent(value) }), make("td", {}, bar(value, low, high)),
      make("td", { className: "i", textContent: low === null ? "" : `[${percent(low)}, ${percent(high)}]` }),
      ...[n, wins, ties, losses, missing, truncated].map((v) => make("td", { className: "r", textContent: short(v) })),
      make("td", { className: "i", textContent: value === null || !method ? reason || method : method }));
    body.append(row);
  }
  const rest = head($("model-further"), ["Metric", "Scope", "Value", "Interval", "n", "By"], ["Scope", "Interval", "By"]);
  for (const [scope, metric, value, low, high, n, , , , , , method, reason] of further)
    rest.append(make("tr", {}, make("th", { scope: "row", textContent: metric }), make("td", { textContent: scope }),
      make("td", { className: "r", textContent: short(value) }),
      make("td", { className: "i", textContent: low === null ? "" : `[${short(low)}, ${short(high)}]` }),
      make("td", { className: "r", textContent: short(n) }),
      make("td", { className: "i", textContent: value === null ? reason : method })));
  $("model-further").closest("details").hidden = !further.length;
  $("model-facts").replaceChildren();
  if (model.apart) $("model-facts").append(make("dt", { textContent: "apart" }), make("dd", { textContent: model.apart }));
  for (const [name, value] of Object.entries(model.facts))
    if (value) {
      const dd = make("dd");
      addText(dd, value);
      $("model-facts").append(make("dt", { textContent: name }), dd);
    }
}

// Items

function margin(model, i) {
  // The best response's score minus the best of the others.
  const scores = data.judged[model].scores[i], grades = data.items[i][2];
  if (!scores || scores.length < 2) return null;
  const best = Math.max(...grades);
  let top = -Infinity, other = -Infinity;
  scores.forEach((s, j) => { grades[j] === best ? (top = Math.max(top, s)) : (other = Math.max(other, s)); });
  return other === -Infinity ? null : top - other;
}

const outcome = (model, i) => data.judged[model].outcomes[i];
const counts = (code) => code === RIGHT || code === WRONG || code === TIE || code === ERROR;

// What an item counts for; a tie that counts nothing is not listed among the credits.
const credit = (model, i) => data.judged[model].credits[i] ?? { w: 1, t: 0, l: 0, e: 0 }[outcome(model, i)];
const change = (a, b, i) => credit(b, i) - credit(a, i);

function divided(i) {
  let right = 0, all = 0;
  for (let m = 0; m < data.models.length; m++)
    if (!data.models[m].baseline && counts(outcome(m, i))) { all++; right += outcome(m, i) === RIGHT; }
  return Math.min(right, all - right);
}

function inconsistent(model, i) {
  const ballots = (data.judged[model].ballots[i] || []).filter((b) => !b[2] && b[1] !== null && !b[7]);
  return new Set(ballots.map((b) => b[1])).size > 1;
}

function searchable(i) {
  haystack ??= [];
  if (haystack[i] === undefined) {
    const parts = [data.items[i][0]];
    if (texts) {
      for (const [, content] of texts.prompts[i] || []) parts.push(content);
      for (const turns of texts.turns[i] || []) for (const [, content] of turns) parts.push(content);
      parts.push(...(texts.responses[i] || []));
      for (const words of texts.words) for (const said of words[i] || []) parts.push(...said.filter(Boolean));
    }
    haystack[i] = parts.join("\n").toLowerCase();
  }
  return haystack[i];
}

async function update() {
  const a = +$("a").value, b = +$("b").value, part = $("search").value.toLowerCase(), subset = $("subset").value;
  if (part) await wanted();
  const test = {
    all: () => true,
    wrong: (i) => outcome(a, i) === WRONG,
    right: (i) => outcome(a, i) === RIGHT,
    tie: (i) => outcome(a, i) === TIE,
    error: (i) => outcome(a, i) === ERROR || outcome(a, i) === ABSENT,
    broken: (i) => outcome(a, i) === RIGHT && counts(outcome(b, i)) && outcome(b, i) !== RIGHT,
    fixed: (i) => outcome(b, i) === RIGHT && counts(outcome(a, i)) && outcome(a, i) !== RIGHT,
    flipped: (i) => counts(outcome(a, i)) && counts(outcome(b, i)) && outcome(a, i) !== outcome(b, i),
    disagree: (i) => divided(i) > 0,
    both: (i) => outcome(a, i) === RIGHT && outcome(b, i) === RIGHT,
    neither: (i) => [a, b].every((m) => counts(outcome(m, i)) && outcome(m, i) !== RIGHT),
    worse: (i) => change(a, b, i) < 0,
    better: (i) => change(a, b, i) > 0,
    inconsistent: (i) => inconsistent(a, i),
  }[$("show").value];
  found = data.items.map((_, i) => i).filter((i) =>
    (subset === "" || data.subsets[data.items[i][1]][0] === subset) && test(i) && (!part || searchable(i).includes(part)));
  const last = (v) => (v === null ? -Infinity : v);
  const key = {
    suite: null,
    margin: (i) => last(margin(a, i)),
    worst: (i) => { const m = margin(a, i); return m === null ? -Infinity : -m; },
    close: (i) => { const m = margin(a, i); return m === null ? -Infinity : -Math.abs(m); },
    split: divided,
    gap: (i) => { const x = margin(a, i), y = margin(b, i); return x === null || y === null ? -Infinity : Math.abs(x - y); },
  }[$("order").value];
  if (key) {
    const keys = new Map(found.map((i) => [i, key(i)]));
    found.sort((i, j) => (keys.get(j) === keys.get(i) ? i - j : keys.get(j) - keys.get(i)));
  }
  at = 0;
  list();
}

function list() {
  const a = +$("a").value, b = +$("b").value;
  $("found").textContent = `${found.length.toLocaleString("en")} of ${data.items.length.toLocaleString("en")} items`;
  $("who").textContent = `A: ${data.models[a].label}. B: ${data.models[b].label}.`;
  const rows = found.slice(at, at + PAGE).map((i) => {
    const [id, subset] = data.items[i], marks = make("span", { className: "marks" });
    for (const m of new Set([a, b])) {
      const code = outcome(m, i);
      marks.append(make("span", { className: code, textContent: MARK[code], title: `${data.models[m].label}: ${WORD[code]}` }));
    }
    const gap = margin(a, i), start = texts && texts.prompts[i] ? texts.prompts[i].at(-1)?.[1].slice(0, 160) || "" : "";
    const words = make("span", { className: "start", dir: "auto" });
    addText(words, start || (gap === null ? "" : `margin of A ${short(gap)}`));
    const button = make("button", { type: "button" }, make("span", { textContent: id }),
      make("span", { className: "subset dim", textContent: data.subsets[subset][0] }), words, marks);
    button.dataset.item = i;
    button.onclick = () => show(i);
    return make("li", {}, button);
  });
  $("list").replaceChildren(...rows);
  $("pages").hidden = found.length <= PAGE;
  $("where").textContent = `${at + 1}–${Math.min(at + PAGE, found.length)}`;
  $("previous").disabled = at === 0;
  $("next").disabled = at + PAGE >= found.length;
}

function verdicts(model, i) {
  const ballots = data.judged[model].ballots[i];
  if (!ballots) return null;
  const said = texts.words[model][i] || [], boxes = [], grades = data.items[i][2];
  ballots.forEach(([shown, verdict, rated, sample, probabilities, labels, judge, error], k) => {
    const order = shown.length > 1 ? `shown ${shown.map((r) => r + 1).join(", ")}` : `response ${shown[0] + 1} alone`;
    const says = error ? `no verdict: ${error}` : rated ? `rating ${short(verdict)}`
      : verdict === "tie" ? "tie" : verdict === null ? "no verdict" : `picks response ${verdict + 1}`;
    const clear = !error && !rated && typeof verdict === "number" && Math.min(...grades) < Math.max(...grades);
    const code = !clear ? "" : grades[verdict] === Math.max(...grades) ? RIGHT : WRONG;
    const title = [judge, order, sample ? `sample ${sample + 1}` : null, says, labels.length ? labels.join(" ") : null,
      probabilities ? `p ${probabilities.map(short).join(" / ")}` : null].filter(Boolean).join(" · ");
    const box = make("div", { className: "box" }, make("h4", {}, title, code ? make("span", { className: code, textContent: ` ${MARK[code]}` }) : null));
    const [text, thinking] = said[k] || [];
    if (text) box.append(textBlock(text));
    if (thinking) box.append(make("details", {}, make("summary", { textContent: "Thinking" }), textBlock(thinking)));
    boxes.push(box);
  });
  const votes = new Map();
  for (const b of ballots) if (!b[2]) votes.set(b[1], (votes.get(b[1]) || 0) + 1);
  const sum = [...votes].map(([v, n]) => `${v === null ? "no verdict" : v === "tie" ? "tie" : `response ${v + 1}`}: ${n}`).join(", ");
  return make("details", { className: "ballots", open: true }, make("summary", { textContent: `${data.models[model].label}: ${
    ballots.length} ballots${sum ? ` (${sum})` : ""}` }), make("div", { className: "side" }, ...boxes));
}

async function show(i) {
  await wanted();
  open = i;
  const [id, subset, grades, lengths, strength, cluster] = data.items[i], [name, category] = data.subsets[subset];
  const close = make("button", { type: "button", textContent: "Close" });
  close.onclick = () => $("item").close();
  const step = (by, text) => {
    const b = make("button", { type: "button", textContent: text, disabled: found[found.indexOf(i) + by] === undefined });
    b.onclick = () => show(found[found.indexOf(i) + by]);
    return b;
  };
  const about = [category, name, strength === null ? null : `strength ${short(strength)}`, cluster ? `cluster ${cluster}` : null];
  const body = [make("div", { className: "top" }, make("h2", { id: "item-title", textContent: id }), step(-1, "←"), step(1, "→"), close),
    make("p", { className: "dim", textContent: about.filter(Boolean).join(" · ") })];
  for (const [role, content] of texts.prompts[i] || [])
    body.push(make("div", { className: "box" }, make("h4", { textContent: role }), textBlock(content)));
  const best = Math.max(...grades);
  const responses = make("div", { className: "side" });
  grades.forEach((grade, j) => {
    const title = `Response ${j + 1} · grade ${short(grade)} · ${lengths[j].toLocaleString("en")} characters`;
    const box = make("div", { className: grade === best && Math.min(...grades) < best ? "box best" : "box" }, make("h4", { textContent: title }));
    for (const [role, content] of (texts.turns[i] || [])[j] || []) box.append(make("h4", { textContent: role }), textBlock(content));
    box.append(texts.responses[i] ? textBlock(texts.responses[i][j]) : make("p", { className: "dim", textContent: "The text is not in this page." }));
    responses.append(box);
  });
  body.push(make("h3", { textContent: "Responses" }), responses, make("h3", { textContent: "Scores" }));
  const table = make("table"), rows = head(table, ["Model", "", ...grades.map((_, j) => `Response ${j + 1}`), "Margin", "Credit", ""]);
  const picked = [+$("a").value, +$("b").value];
  const order = [...data.models.keys()].sort((x, y) => picked.includes(y) - picked.includes(x) || x - y);
  for (const m of order) {
    const judged = data.judged[m], code = outcome(m, i), scores = judged.scores[i];
    if (code === ABSENT) continue;
    const counted = credit(m, i);
    rows.append(make("tr", {}, make("th", { scope: "row", textContent: data.models[m].label }),
      make("td", { className: code, textContent: `${MARK[code]} ${WORD[code]}` }),
      ...grades.map((_, j) => make("td", { className: "r", textContent: scores ? short(scores[j]) : "–" })),
      make("td", { className: "r", textContent: short(margin(m, i)) }),
      make("td", { className: "r", textContent: counted === undefined ? "–" : short(counted) }),
      make("td", { textContent: judged.errors[i] || "" })));
  }
  body.push(make("div", { className: "scroll", tabIndex: 0 }, table));
  const judges = order.map((m) => verdicts(m, i)).filter(Boolean);
  if (judges.length) body.push(make("h3", { textContent: "Judges" }), ...judges);
  $("item-body").replaceChildren(...body);
  if (!$("item").open) $("item").showModal();
  $("item").focus();
  $("item").scrollTop = 0;
  location.replace(`#item=${encodeURIComponent(id)}`);
}

// Margins

function scatter() {
  const canvas = $("scatter"), a = +$("a").value, b = +$("b").value;
  const size = canvas.clientWidth, scale = window.devicePixelRatio || 1, pad = 34;
  canvas.width = canvas.height = size * scale;
  const g = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  g.scale(scale, scale);
  const points = [], single = data.items.every((item) => item[2].length === 1);
  const place = (m, i) => (single ? data.judged[m].scores[i]?.[0] ?? null : margin(m, i));
  data.items.forEach((_, i) => {
    const x = place(a, i), y = place(b, i);
    if (x !== null && y !== null) points.push([x, y, i]);
  });
  const range = (k) => {  // a few far points are drawn at the edge
    const sorted = points.map((p) => (single ? p[k] : Math.abs(p[k]))).sort((x, y) => x - y);
    const at = (share) => sorted[Math.floor(share * (sorted.length - 1))];
    const high = at(0.995) ?? 1, low = single ? at(0.005) ?? -1 : -high, edge = 0.04 * (high - low) || 1;
    return [low - edge, high + edge];
  };
  const [rx, ry] = [range(0), range(1)], share = (v, [low, high]) => Math.max(0, Math.min(1, (v - low) / (high - low)));
  const px = (v) => pad + (size - 2 * pad) * share(v, rx), py = (v) => size - pad - (size - 2 * pad) * share(v, ry);
  g.strokeStyle = colour("--line");
  g.beginPath();
  if (!single) { g.moveTo(px(0), pad); g.lineTo(px(0), size - pad); g.moveTo(pad, py(0)); g.lineTo(size - pad, py(0)); }
  else g.rect(pad, pad, size - 2 * pad, size - 2 * pad);
  g.stroke();
  g.font = "12px system-ui, sans-serif";
  g.fillStyle = colour("--dim");
  g.textAlign = "center";
  const said = single ? "score" : "best response ahead", end = ([low, high]) => (single ? `${short(+low.toPrecision(2))} … ` : "±") + short(+high.toPrecision(2));
  g.fillText(`A: ${said} →`, size / 2, size - 10);
  g.textAlign = "right"; g.fillText(end(rx), size - pad, size - 10);
  g.textAlign = "left"; g.fillText(end(ry), pad, 18); g.textAlign = "center";
  g.save(); g.translate(14, size / 2); g.rotate(-Math.PI / 2); g.fillText(`B: ${said} →`, 0, 0); g.restore();
  const stacks = new Map();  // judges' margins take few values: what lies on one spot is drawn as a larger one
  for (const [x, y, i] of points) {
    const kind = single ? (data.items[i][2][0] > 0 ? "fixed" : "broken") : x > 0 && y <= 0 ? "broken" : x <= 0 && y > 0 ? "fixed" : null;
    const spot = `${x} ${y} ${kind}`;
    stacks.set(spot, [x, y, (stacks.get(spot)?.[2] || 0) + 1, kind]);
  }
  g.globalAlpha = stacks.size > 800 ? 0.45 : 0.7;
  for (const [x, y, n, flipped] of stacks.values()) {
    const radius = Math.min(18, (flipped ? 2.2 : 1.6) + Math.sqrt(n));
    g.fillStyle = colour(flipped === "broken" ? "--bad" : flipped ? "--good" : "--dim");
    g.beginPath();
    if (flipped === "broken") g.rect(px(x) - radius, py(y) - radius, 2 * radius, 2 * radius);  // shape as well as colour
    else g.arc(px(x), py(y), radius, 0, 7);
    g.fill();
  }
  cross(a, b);
  $("cross").hidden = single;
  $("scatter-note").textContent = `${points.length.toLocaleString("en")} items, a larger mark for several on one spot. ` + (single
    ? "Score of the one response, each model in its own unit. Squares: graded bad. Dots: graded good."
    : "Margin: score of the best-graded response minus the best of the others, each model in its own unit. Squares: A right and B not. " +
      "Coloured dots: B right and A not.") + " Click a mark to open its item.";
  canvas.onclick = (event) => {
    const box = canvas.getBoundingClientRect(), mx = event.clientX - box.left, my = event.clientY - box.top;
    let near = null, distance = 144;
    for (const [x, y, i] of points) {
      const d = (px(x) - mx) ** 2 + (py(y) - my) ** 2;
      if (d < distance) { distance = d; near = i; }
    }
    if (near !== null) show(near);
  };
}

function cross(a, b) {
  const right = (m, i) => outcome(m, i) === RIGHT, table = $("cross");
  const both = data.items.map((_, i) => i).filter((i) => counts(outcome(a, i)) && counts(outcome(b, i)));
  const cell = (kind, x, y) => {
    const n = both.filter((i) => right(a, i) === x && right(b, i) === y).length;
    const button = make("button", { type: "button", textContent: n.toLocaleString("en"), title: "show these items" });
    button.onclick = () => { $("show").value = kind; update(); $("items").scrollIntoView(); };
    return make("td", { className: x === y ? "" : x ? "l" : "w" }, button);
  };
  const th = (text, scope) => make("th", { scope, textContent: text });
  table.replaceChildren(make("thead", {}, make("tr", {}, make("td"), th("B right", "col"), th("B not", "col"))),
    make("tbody", {}, make("tr", {}, th("A right", "row"), cell("both", true, true), cell("broken", true, false)),
      make("tr", {}, th("A not", "row"), cell("fixed", false, true), cell("neither", false, false))));
}

// Start

function theme() {
  const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
  if (data && $("scatter")) scatter();
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) return;
  if (event.key === "t") return theme();
  if (!$("items")) return;
  if (event.key === "/") { event.preventDefault(); $("search").focus(); }
  if (event.key !== "j" && event.key !== "k") return;
  const by = event.key === "j" ? 1 : -1;
  if ($("item").open) {
    const next = found[found.indexOf(open) + by];
    if (next !== undefined) show(next);
    return;
  }
  const buttons = [...$("list").querySelectorAll("button")], now = buttons.indexOf(document.activeElement);
  buttons[Math.max(0, Math.min(buttons.length - 1, now + by))]?.focus();
}

function options(select, names, value) {
  select.replaceChildren(...names.map(([v, n]) => make("option", { value: v, textContent: n })));
  select.value = value;
}

function startItems() {
  const models = data.models.map((m, i) => [i, m.label + (m.apart ? " (apart)" : "")]);
  const label = (name, otherwise) => { const i = data.pair ? data.models.findIndex((m) => m.label === name) : -1; return i < 0 ? otherwise : i; };
  options($("a"), models, label(data.pair?.[0], 0));
  options($("b"), models, label(data.pair?.[1], Math.min(1, models.length - 1)));
  options($("subset"), [["", "all"], ...data.subsets.map(([s]) => [s, s])], "");
  if (data.pair) $("show").value = "worse";
  for (const id of ["a", "b"]) $(id).onchange = () => { scatter(); update(); };
  for (const id of ["subset", "show", "order"]) $(id).onchange = update;
  let timer = 0;
  $("search").oninput = () => { clearTimeout(timer); timer = setTimeout(update, 120); };
  const turn = (by) => () => { at += by * PAGE; list(); $("items").scrollIntoView(); };
  $("previous").onclick = turn(-1);
  $("next").onclick = turn(1);
  $("item").addEventListener("close", () => {
    const button = $("list").querySelector(`[data-item="${open}"]`);
    if (button) button.focus();
  });
  $("item").addEventListener("click", (event) => { if (event.target === $("item")) $("item").close(); });
  window.addEventListener("resize", scatter);
  scatter();
}

function askedItem() {
  try {
    return decodeURIComponent((location.hash.match(/^#item=(.*)$/) || [])[1] || "");
  } catch {
    return "";  // a link cut short in its escapes
  }
}

async function start() {
  $("theme").onclick = theme;
  document.addEventListener("keydown", keys);
  startBoard();
  data = await unpack("summary-blob");
  $("summary-blob").textContent = "";
  if ($("model-pick")) {
    options($("model-pick"), data.models.map((m, i) => [i, m.label + (m.apart ? " (apart)" : "")]), 0);
    $("model-pick").onchange = showModel;
    showModel();
  }
  if ($("items")) {
    startItems();
    await update();
    const asked = askedItem();
    document.documentElement.dataset.ready = "board";
    await new Promise((done) => setTimeout(done));  // the first view is drawn before the texts are unpacked
    await wanted();
    list();
    const index = asked ? data.items.findIndex((item) => item[0] === asked) : -1;
    if (index >= 0) await show(index);
  }
  document.documentElement.dataset.ready = "all";
}

start();
