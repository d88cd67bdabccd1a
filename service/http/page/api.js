// Asks the service that this page comes from, behind whatever path it is published.

import { Problem } from "./problems.js";

export const RECOGNIZE = new URL("recognize?explain=true", document.baseURI).href;

/** The answer to a post. Throws a Problem, or an AbortError when the signal says so. */
export async function recognize({ text, photo }, key, signal) {
  const headers = { "Content-Type": "application/json", ...authorization(key) };
  const body = JSON.stringify(photo ? { text, image: await base64(photo) } : { text });
  signal.throwIfAborted();
  const answer = await ask(RECOGNIZE, { method: "POST", headers, body, signal });
  if (!Array.isArray(answer.entities)) throw new Problem("unexpected_answer");
  return answer;
}

/** The model, its labels and the limits. */
export function info() {
  return ask(new URL("info", document.baseURI));
}

/** A photo that comes along with the page, as a file. */
export async function fetchPhoto(url, signal) {
  const response = await connect(fetch(url, { signal }));
  if (!response.ok) throw Problem.of(response, null);
  const blob = await connect(response.blob());
  return new File([blob], url.split("/").pop(), { type: blob.type });
}

async function ask(url, options) {
  const response = await connect(fetch(url, options));
  const answer = parsed(await connect(response.text()));
  if (!response.ok) throw Problem.of(response, answer);
  if (answer === null) throw new Problem("unexpected_answer", "it is not JSON");
  return answer;
}

async function connect(work) {
  try {
    return await work;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(navigator.onLine ? "unreachable" : "offline");
  }
}

function parsed(content) {
  try {
    const value = JSON.parse(content);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

function authorization(key) {
  if (!key) return {};
  if (!/^[!-~]+$/.test(key)) throw new Problem("unsendable_key");
  return { Authorization: `Bearer ${key}` };
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Problem("unreadable_file"));
    reader.readAsDataURL(file);
  });
}
