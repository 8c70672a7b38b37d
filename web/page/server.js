// What the page asks the server: addresses, and mistakes as errors with one line.

/** The JSON of an answer; throws an Error with the server's line where it refuses. */
export async function ask(method, path, { body, name } = {}) {
  const response = await send(method, path, { body, name });
  return response.json();
}

/** The bytes of an answer, a Uint8Array. */
export async function askBytes(path) {
  const response = await send("GET", path, {});
  return new Uint8Array(await response.arrayBuffer());
}

/** `path` with words of a query, an object. */
export function address(path, words) {
  return `${path}?${new URLSearchParams(words)}`;
}

async function send(method, path, { body, name }) {
  let response;
  try {
    const headers = name === undefined ? {} : { "X-Name": encodeURIComponent(name) };
    response = await fetch(path, { method, body, headers });
  } catch {
    throw new Error("the server does not answer: start it again with bash web.sh");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Error(answer.error ?? `the server answers ${response.status}`);
}
