// The page: asks for photos, shows answers. Text from outside is only ever set as textContent.
// The state is in the address: #answer=3&place=2&view=then, or #photo=17.

import { PhotoMap, metres, metresBetween } from "/static/map.js";
import { showMatches, showThen } from "/static/pair.js";

const MOST_BYTES = 30_000_000;
const RETRIES = 5;
const PAGE = 24, NEAR = 12;
const STAGES = {
  send: "Sending the photo",
  wait: "Waiting for its turn",
  describe: "Describing the photo",
  shortlist: "Looking through the index",
  "compare patches": "Comparing patches",
  decide: "Deciding",
};

const key = document.querySelector("meta[name=placerec-key]").content;
const $ = (id) => document.getElementById(id);
const photos = new Map(); // number -> {number, name, latitude, longitude}
const queries = []; // {name, state, answer}
let index = null, answer = null, place = null, shown = PAGE, busy = false, view = "matches", turn = 0;
const map = new PhotoMap($("map"), (photo) => go({ photo: photo.number }));

// ---- small helpers

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

async function request(address, options) {
  try {
    return await fetch(address, options);
  } catch {
    throw new Error("The program does not answer. Start it again: placerec serve.");
  }
}

async function json(address) {
  const response = await request(address);
  const content = await response.json();
  if (!response.ok) throw new Error(content.error);
  return content;
}

const located = (thing) => thing && thing.latitude !== null && thing.latitude !== undefined;
const degrees = (at) => `${at.latitude.toFixed(6)}, ${at.longitude.toFixed(6)}`;

// A character that changes the reading direction, or cannot be seen, is shown as \u202e.
function printable(name) {
  return name.replace(/[\p{Bidi_Control}\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/gu, (c) => `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`);
}

function percent(confidence, under = "under", over = "over") {
  if (confidence >= 0.995) return `${over} 99\u00a0%`;
  return confidence < 0.01 ? `${under} 1\u00a0%` : `${Math.round(100 * confidence)}\u00a0%`;
}

function picture(number, size = "/small") {
  const image = element("img", { alt: "", loading: "lazy", src: `/photo/${number}${size}` });
  image.addEventListener("error", () => image.replaceWith(element("span", { className: "blank" })));
  return image;
}

// ---- the address

function state() {
  const entries = new URLSearchParams(location.hash.slice(1));
  const number = (name) => /^[0-9]{1,9}$/.test(entries.get(name) ?? "") ? Number(entries.get(name)) : null;
  return { answer: number("answer"), place: number("place") ?? 1, photo: number("photo"), view: entries.get("view") };
}

function go(parts, replace = false) {
  const hash = `#${new URLSearchParams(parts)}`;
  if (replace) history.replaceState(null, "", hash);
  else if (hash !== location.hash) history.pushState(null, "", hash);
  return follow();
}

async function follow() {
  const here = state(), mine = ++turn;
  view = here.view === "then" ? "then" : "matches";
  try {
    if (here.answer !== null) {
      if (answer?.number !== here.answer) {
        const loaded = await json(`/api/answers/${here.answer}`);
        if (mine !== turn) return;
        answer = loaded;
      }
      if (answer.version !== index.version) await loadMap();
      if (mine === turn) showAnswer(here.place);
    } else if (here.photo !== null) showPhoto(here.photo);
    else showStart();
  } catch (error) {
    if (mine === turn) say("Something went wrong", error.message, "no");
  }
}

// ---- what the page says

function say(sentence, detail, tone = "") {
  $("headline").textContent = sentence;
  $("detail").textContent = detail;
  $("sentence").className = `sentence ${tone}`;
  document.title = tone === "empty" ? `${index?.index ?? ""} - placerec` : `${sentence} - placerec`;
}

function sentenceOf(answer) {
  const best = answer.places[0];
  if (!best) {
    const first = answer.note.charAt(0).toUpperCase() + answer.note.slice(1);
    return [first || "Nothing to recognise", "The photo shows no structure: one colour, or a covered lens.", "no"];
  }
  const where = answer.where;
  if (answer.in_map === false) {
    return ["Not in this map", "The photos below are the most similar ones, but they probably show other places.", "no"];
  }
  const detail = [];
  if (where) {
    detail.push(degrees(where), `68 of 100 within ${metres(where.radius_68)}, 95 within ${metres(where.radius_95)}`);
  } else if (located(best)) detail.push(degrees(best));
  if (answer.in_map === null) {
    if (answer.uncalibrated) detail.push(`no confidence: ${answer.uncalibrated}`);
    return [`Most alike: ${best.name}`, detail.join(" \u00b7 "), ""];
  }
  const sure = best.confidence === null ? "" : `, sure ${percent(best.confidence)}`;
  const radius = where ? `, \u00b1\u00a0${metres(where.radius_95)}` : "";
  return [`Most likely here${sure}${radius}`, [best.name, ...detail].join(" \u00b7 "), "yes"];
}

// ---- views

function showOnly(...ids) {
  for (const id of ["ranked", "pair", "one", "where", "links"]) $(id).hidden = !ids.includes(id);
  const both = (ids.includes("pair") || ids.includes("one")) && ids.includes("where");
  document.querySelector(".columns").classList.toggle("alone", !both);
}

function showStart() {
  answer = place = null;
  markQueries();
  say("Where was this photo taken?", "Drop a photo anywhere on this page, paste one, or choose one. It stays on this machine.", "empty");
  showOnly(...(hasMap() ? ["where"] : []));
  map.mark([], null);
  map.fitAll();
  list("Photos of this index", [...photos.values()], true);
}

function showPhoto(number) {
  const photo = photos.get(number);
  answer = place = null;
  markQueries();
  if (!photo) throw new Error("This photo is not in the index any more.");
  say(photo.name, located(photo) ? degrees(photo) : "no position", "");
  showOnly("one", ...(hasMap() && located(photo) ? ["where"] : []));
  $("one-picture").src = `/photo/${number}`;
  $("one-picture").alt = photo.name;
  $("one-name").textContent = photo.name;
  if (located(photo)) {
    map.mark([{ ...photo, label: "", on: true }], null);
    map.fit([photo], 200);
  }
  near(photo, number);
}

function showAnswer(rank) {
  const [sentence, detail, tone] = sentenceOf(answer);
  if ($("headline").textContent !== sentence || $("detail").textContent !== detail) say(sentence, detail, tone);
  $("sentence").className = `sentence ${tone}`;
  place = answer.places[Math.min(rank, answer.places.length) - 1] ?? null;
  markQueries();
  showStrip();
  showLinks();
  showOnly("links", ...(place ? ["ranked", "pair"] : []), ...(hasMap() ? ["where"] : []));
  const marks = answer.places.filter(located).map((p) => ({ ...p, label: String(p.rank), on: p === place }));
  map.mark(marks, answer.where);
  const around = located(place) ? [place] : marks.slice(0, 1);
  if (marks.length) map.fit(answer.where && place.rank === 1 ? [...around, answer.where] : around, Math.max(200, 2.4 * (answer.where?.radius_95 ?? 0)));
  else map.fitAll();
  if (place) {
    showPair();
    near(located(place) ? place : answer.where, place.number);
  } else list("Photos of this index", [...photos.values()], true);
}

function showStrip() {
  $("strip").replaceChildren(...answer.places.map((one) => {
    const sure = (...words) => one.confidence === null ? `score ${one.score.toFixed(3)}` : `sure ${percent(one.confidence, ...words)}`;
    const label = element("span", { className: "label" }, element("b", { textContent: `${one.rank} ` }), sure("<", ">"));
    const button = element("button", { type: "button", title: one.name }, picture(one.number), label);
    button.setAttribute("aria-label", `Place ${one.rank}: ${one.name}, ${sure()}`);
    if (one === place) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => choosePlace(one.rank));
    return element("li", {}, button);
  }));
}

function showLinks() {
  const links = [];
  const here = answer.where ?? (answer.in_map !== false && located(answer.places[0]) ? answer.places[0] : null);
  if (here) {
    const exact = answer.where ? `;u=${Math.round(answer.where.radius_95)}` : "";
    links.push(element("a", { href: `geo:${here.latitude.toFixed(7)},${here.longitude.toFixed(7)}${exact}`, textContent: "Open in a map program" }));
  }
  for (const kind of ["json", "geojson"]) {
    const name = kind === "json" ? "JSON" : "GeoJSON";
    links.push(element("a", { href: `/api/answers/${answer.number}.${kind}`, download: `answer_${answer.number}.${kind}`, textContent: name }));
  }
  const times = Object.entries(answer.milliseconds);
  const total = times.reduce((sum, [, ms]) => sum + ms, 0);
  const parts = times.map(([stage, ms]) => `${stage} ${Math.round(ms)}`).join(", ");
  links.push(element("span", { className: "quiet", textContent: `${Math.round(total)} ms (${parts})` }));
  $("links").replaceChildren(...links);
}

async function showPair() {
  const [here, chosen] = [answer, place];
  const inliers = chosen.inliers === null ? "" : ` \u00b7 ${chosen.inliers} matches`;
  const sure = chosen.confidence === null ? "" : ` \u00b7 sure ${percent(chosen.confidence)}`;
  $("scores").textContent = `Your photo and place ${chosen.rank}: ${chosen.name}${sure} \u00b7 score ${chosen.score.toFixed(3)}${inliers}`;
  for (const name of ["matches", "then"]) {
    $(name).hidden = view !== name;
    $(`view-${name}`).setAttribute("aria-pressed", String(view === name));
  }
  try {
    const pair = await json(`/api/answers/${here.number}/pairs/${chosen.rank}`);
    if (answer !== here || place !== chosen) return;
    const sources = [`/query/${here.number}`, `/photo/${chosen.number}`];
    const names = [here.name, chosen.name];
    if (view === "then") showThen($("then"), controls(), pair, sources, names);
    else showMatches($("matches"), controls(), pair, sources, names);
  } catch (error) {
    if (answer === here && place === chosen) $(view).replaceChildren(element("p", { textContent: error.message }));
  }
}

const controls = () => ({ label: $("slide"), name: $("slide-name"), slider: $("slider"), value: $("slide-value") });
const hasMap = () => [...photos.values()].some(located);

// ---- lists of photos

function near(at, but) {
  if (!located(at)) return list("Photos of this index", [...photos.values()], true);
  const others = [...photos.values()].filter((photo) => located(photo) && photo.number !== but);
  for (const photo of others) photo.far = metresBetween(at, photo);
  others.sort((one, two) => one.far - two.far);
  return list("Photos near here", others.slice(0, NEAR), false);
}

function list(title, some, all) {
  $("near-title").textContent = all ? `${title} (${some.length})` : title;
  $("near").replaceChildren(...some.slice(0, all ? shown : NEAR).map((photo) => {
    const text = all ? photo.name : `${metres(photo.far)} \u00b7 ${photo.name}`;
    const label = element("span", { className: "label", textContent: text });
    const button = element("button", { type: "button", title: photo.name }, picture(photo.number), label);
    button.addEventListener("click", () => go({ photo: photo.number }));
    return element("li", {}, button);
  }));
  $("more").hidden = !all || some.length <= shown;
}

// ---- asking

function ask(files) {
  for (const file of files) queries.push({ file, name: printable(file.name || "pasted photo"), state: "waits" });
  showQueries();
  if (!busy) work();
}

async function work() {
  busy = true;
  for (let next; (next = queries.find((query) => query.state === "waits"));) await search(next);
  busy = false;
  $("progress").hidden = true;
}

async function search(query) {
  query.state = "runs";
  showQueries();
  stage("send");
  try {
    if (query.file.size > MOST_BYTES) throw new Error("The photo has more than 30 MB.");
    query.answer = await send(query);
    query.state = "done";
    answer = query.answer;
    await go({ answer: answer.number, place: 1, view });
  } catch (error) {
    query.state = "failed";
    query.why = error.message;
    $("progress").hidden = true;
    showProblem(query);
  }
  delete query.file;
  showQueries();
}

function showProblem(query) {
  answer = place = null;
  say(`${query.name} cannot be searched`, query.why, "no");
  showOnly();
  list("Photos of this index", [...photos.values()], true);
}

async function send(query) {
  const headers = { "X-Placerec-Key": key, "X-Photo-Name": encodeURIComponent(query.file.name.toWellFormed().slice(0, 200).toWellFormed()) };
  for (let attempt = 1; ; attempt++) {
    const response = await request("/api/query", { method: "POST", headers, body: query.file });
    if (response.status === 503 && attempt < RETRIES) {
      stage("wait");
      await new Promise((resolve) => setTimeout(resolve, 2000));
      continue;
    }
    if (!response.ok) throw new Error((await response.json()).error);
    return lastOf(response);
  }
}

// The answer is a line of JSON for each stage, and one for the answer or the error.
async function lastOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read().catch(() => ({ done: true }));
    if (done) throw new Error("The program ended before it answered.");
    const lines = (text + value).split("\n");
    text = lines.pop();
    for (const line of lines.map((each) => JSON.parse(each))) {
      if (line.error) throw new Error(line.error);
      if (line.answer) return line.answer;
      stage(line.stage);
    }
  }
}

function stage(name) {
  $("progress").hidden = false;
  $("bar").value = Math.max(0, Object.keys(STAGES).indexOf(name));
  $("stage").textContent = STAGES[name] ?? name;
}

function showQueries() {
  $("asked").hidden = queries.length < 2;
  $("queries").replaceChildren(...queries.map((query) => {
    const image = query.answer
      ? element("img", { alt: "", src: `/query/${query.answer.number}` })
      : element("span", { className: "blank" });
    const text = { waits: "waits", runs: "searching", failed: "cannot be read", done: query.name }[query.state];
    const button = element("button", { type: "button", title: query.name }, image, element("span", { className: "label", textContent: text }));
    button.setAttribute("aria-label", `${query.name}: ${query.state === "done" ? "answered" : text}`);
    button.disabled = !["done", "failed"].includes(query.state);
    button.addEventListener("click", () => query.answer ? go({ answer: query.answer.number, place: 1, view }) : showProblem(query));
    query.button = button;
    return element("li", {}, button);
  }));
  markQueries();
}

function markQueries() {
  for (const query of queries) {
    if (query.answer && query.answer.number === answer?.number) query.button?.setAttribute("aria-current", "true");
    else query.button?.removeAttribute("aria-current");
  }
}

function choosePlace(rank) {
  if (!answer?.places[rank - 1]) return;
  go({ answer: answer.number, place: rank, view }, true);
  $("strip").children[rank - 1]?.querySelector("button").focus();
}

function chooseView(name) {
  if (answer && place) go({ answer: answer.number, place: place.rank, view: name }, true);
}

// ---- beginning

async function loadMap() {
  index = await json("/api/map");
  photos.clear();
  for (const [number, name, latitude, longitude] of index.photos) photos.set(number, { number, name, latitude, longitude });
  const places = [...photos.values()].filter(located);
  $("index").textContent = `${index.index} \u00b7 ${photos.size} photos`;
  $("index").title = index.model;
  $("map-note").textContent = places.length < photos.size ? `${places.length} of ${photos.size} photos have a position.` : "";
  map.tiles = index.tiles;
  $("tiles").textContent = index.tiles ? `, but the map is from ${new URL(index.tiles).host}` : "";
  map.setPhotos(places);
}

function listen() {
  const dragged = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0;
  const over = (change) => { depth = Math.max(0, depth + change); $("drop").hidden = depth === 0; };
  addEventListener("dragenter", (event) => { if (dragged(event)) over(1); });
  addEventListener("dragleave", (event) => { if (dragged(event)) over(-1); });
  addEventListener("dragover", (event) => { if (dragged(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if (!dragged(event)) return;
    event.preventDefault();
    over(-depth);
    ask(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => { if (event.clipboardData?.files.length) ask(event.clipboardData.files); });
  addEventListener("popstate", follow);
  addEventListener("hashchange", follow);
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^[1-9]$/.test(event.key)) choosePlace(Number(event.key));
    else if (event.key.toLowerCase() === "m") chooseView("matches");
    else if (event.key.toLowerCase() === "t") chooseView("then");
  });
  $("choose").addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", () => { ask($("files").files); $("files").value = ""; });
  $("view-matches").addEventListener("click", () => chooseView("matches"));
  $("view-then").addEventListener("click", () => chooseView("then"));
  $("zoom-in").addEventListener("click", () => map.zoom(1.6));
  $("zoom-out").addEventListener("click", () => map.zoom(1 / 1.6));
  $("zoom-all").addEventListener("click", () => map.fitAll());
  $("more").addEventListener("click", () => { shown += 2 * PAGE; list("Photos of this index", [...photos.values()], true); });
}

async function begin() {
  listen();
  try {
    await loadMap();
    await follow();
    map.setLand(await json("/static/land.json"));
  } catch (error) {
    say("The index cannot be shown", error.message, "no");
  }
}

begin();
