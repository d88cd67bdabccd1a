// The request as programs that run as they are, whatever the text has in it.

/**
 * @param post its text; `photo` is the name of its file, or empty; `source` the photo's address if it has one.
 * @param url where it is sent.
 * @param hasKey whether the request needs a key, which the programs take from the environment.
 */
export function snippet(language, post, url, hasKey) {
  return { curl, python, javascript }[language](post, url, hasKey);
}

function curl({ text, photo, source }, url, hasKey) {
  const key = hasKey ? [`-H "Authorization: Bearer $SMNER_API_KEY"`] : [];
  if (!photo) return ["curl", shell(url), ...key, `--json ${shell(`{"text": ${literal(text)}}`)}`].join(" ");
  const file = `image=@"${photo.replace(/["\\]/g, "\\$&")}"`; // in quotes, or curl would cut it at a comma
  const fetched = source ? [`curl ${shell(source)} --output ${shell(path(photo))}`] : [];
  const options = [...key, `--form-string ${shell(`text=${text}`)}`, `--form ${shell(file)}`];
  return [...fetched, [`curl ${shell(url)}`, ...options].join(" \\\n  ")].join("\n");
}

function python({ text, photo, source }, url, hasKey) {
  const read = source ? `urlopen(${literal(source)}).read()` : `open(${literal(photo)}, "rb").read()`;
  const image = photo ? `, "image": b64encode(${read}).decode()` : "";
  const key = hasKey ? `, "Authorization": f"Bearer {os.environ['SMNER_API_KEY']}"` : "";
  return [
    "import json",
    ...(hasKey ? ["import os"] : []),
    ...(photo ? ["from base64 import b64encode"] : []),
    "from urllib.request import Request, urlopen",
    "",
    `post = {"text": ${literal(text)}${image}}`,
    `headers = {"Content-Type": "application/json"${key}}`,
    `with urlopen(Request(${literal(url)}, json.dumps(post).encode(), headers)) as response:`,
    `    for entity in json.load(response)["entities"]:`,
    `        print(entity["entity_group"], entity["word"], entity["start"], entity["end"], entity["score"])`,
  ].join("\n");
}

function javascript({ text, photo, source }, url, hasKey) {
  const bytes = source
    ? `Buffer.from(await (await fetch(${literal(source)})).arrayBuffer())`
    : `(await readFile(${literal(photo)}))`;
  const image = photo ? `, image: ${bytes}.toString("base64")` : "";
  const key = hasKey ? ", Authorization: `Bearer ${process.env.SMNER_API_KEY}`" : "";
  return [
    ...(photo && !source ? [`import { readFile } from "node:fs/promises";`, ""] : []),
    `const post = { text: ${literal(text)}${image} };`,
    `const response = await fetch(${literal(url)}, {`,
    `  method: "POST",`,
    `  headers: { "Content-Type": "application/json"${key} },`,
    `  body: JSON.stringify(post),`,
    `});`,
    `const answer = await response.json();`,
    `if (!response.ok) throw new Error(answer.detail);`,
    `for (const { entity_group, word, start, end, score } of answer.entities) {`,
    `  console.log(entity_group, word, start, end, score);`,
    `}`,
  ].join("\n");
}

// one argument of a POSIX shell
function shell(argument) {
  return `'${argument.replaceAll("'", `'\\''`)}'`;
}

// curl takes an output file that begins with a hyphen for an option
function path(name) {
  return name.startsWith("-") ? `./${name}` : name;
}

// A string of JSON is one of Python and of JavaScript, too. Characters that turn or break lines are escaped: a reader
// would see something else than what is sent.
function literal(string) {
  const invisible = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
  return JSON.stringify(string).replace(invisible, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
