// Wires the parts of the page together.

import { Answer } from "./answer.js";
import { fetchPhoto, info, recognize } from "./api.js";
import { PhotoField } from "./photo.js";
import { Problem, grouped } from "./problems.js";
import { ProblemView } from "./problem-view.js";
import { Progress } from "./progress.js";
import { RequestPanel } from "./request.js";
import { storedKey, storeKey } from "./key.js";
import { knowTypes } from "./types.js";

const byId = (id) => document.getElementById(id);

const [text, key] = [byId("text"), byId("key")];
const sources = new WeakMap(); // addresses of the photos that come along
let limits = {};
let current = null; // the request in progress

const answer = new Answer();
const progress = new Progress();
const problem = new ProblemView(() => start());
const photo = new PhotoField(byId("photo"), () => request.update());
const request = new RequestPanel(() => ({
  text: text.value,
  photo: photo.file,
  source: photo.file && sources.get(photo.file),
  key: key.value.trim(),
}));

/** Send the post, after `fill` has filled the form; the request before is given up. */
async function start(fill = async () => {}) {
  current?.abort();
  const own = (current = new AbortController());
  problem.clear();
  progress.begin(limits.deadline_seconds);
  try {
    await fill(own.signal);
    const post = { text: text.value, photo: photo.file };
    checkSize(post.photo);
    const began = performance.now();
    const found = await recognize(post, key.value.trim(), own.signal);
    answer.show(post, found);
    progress.end(summary(found, performance.now() - began));
  } catch (error) {
    if (own.signal.aborted) return;
    fail(error);
  } finally {
    if (current === own) current = null;
  }
}

function cancel() {
  current?.abort();
  current = null;
  progress.end("Canceled.");
}

function fail(error) {
  if (!(error instanceof Problem)) console.error(error);
  answer.hide();
  progress.end("");
  problem.show(error instanceof Problem ? error : new Problem("page_failed", String(error)));
  if (error.code === "unauthorized") {
    byId("key-field").hidden = false;
    key.focus();
  }
}

// browsers lose an answer that comes before a large upload has ended
function checkSize(file) {
  const limit = limits.image_bytes;
  if (file && file.size > limit) {
    throw new Problem("image_too_large", `the photo has ${file.size} bytes; the limit is ${limit}`);
  }
}

function summary({ entities, model }, milliseconds) {
  const count = { 0: "No entities", 1: "1 entity" }[entities.length] ?? `${grouped(entities.length)} entities`;
  return `${count} in ${grouped(Math.round(milliseconds))} ms, found by ${model?.name ?? "the service"}.`;
}

function countCharacters() {
  const [count, limit] = [Array.from(text.value).length, limits.text_characters];
  const excess = limit && count > limit ? `: ${grouped(count - limit)} too many` : "";
  byId("count").textContent = `${grouped(count)}${limit ? ` of at most ${grouped(limit)}` : ""} characters${excess}`;
  byId("count").classList.toggle("excess", excess !== "");
}

async function readInfo() {
  try {
    const { labels, limits: those } = await info();
    knowTypes(labels);
    limits = those;
  } catch {
    // the page works without; the first request will tell what is wrong
  }
  countCharacters();
}

byId("post").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
byId("cancel").addEventListener("click", cancel);
text.addEventListener("input", () => {
  countCharacters();
  request.update();
});
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) start();
});
key.addEventListener("input", () => {
  storeKey(key.value.trim());
  request.update();
});
for (const example of document.querySelectorAll(".example")) {
  example.addEventListener("click", () =>
    start(async (signal) => {
      const source = example.querySelector("img").src;
      const file = await fetchPhoto(source, signal);
      sources.set(file, source);
      text.value = example.textContent.trim();
      photo.set(file);
      countCharacters();
    }),
  );
}

key.value = storedKey();
byId("key-field").hidden = !key.value;
readInfo();
