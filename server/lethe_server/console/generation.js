// One answer of one model, and how probable a model finds a given one.

import { send } from "./api.js";
import { events } from "./events.js";

const MODULE = "x-lethe-module";
const STRENGTH = "X-Lethe-Strength";

// asked: model, chat, prompt, maxTokens, temperature, strength (a number or null), user, stream, signal.
// heard: called with the text so far. Gives the ids of prompt and answer, the text, and which module answered.
export async function generate(asked, heard) {
  const body = {
    model: asked.model,
    max_tokens: asked.maxTokens,
    temperature: asked.temperature,
    stream: asked.stream,
    user: asked.user, // on a route with several targets, one user has one target
    return_token_ids: true,
    ...(asked.chat ? { messages: [{ role: "user", content: asked.prompt }] } : { prompt: asked.prompt }),
  };
  const path = asked.chat ? "v1/chat/completions" : "v1/completions";
  const answer = await send("POST", path, { body, signal: asked.signal, headers: chosen(asked.strength) });
  const made = { module: answer.headers.get(MODULE), promptIds: [], ids: [], text: "", end: null };
  const chunks = asked.stream ? events(answer) : [await answer.json()];
  for await (const chunk of chunks) {
    const choice = chunk.choices[0];
    const prompt = choice?.prompt_token_ids ?? chunk.prompt_token_ids;
    if (prompt) made.promptIds = prompt;
    if (!choice) continue;
    made.ids.push(...(choice.token_ids ?? []));
    made.text += choice.text ?? choice.delta?.content ?? choice.message?.content ?? "";
    made.end = choice.finish_reason ?? made.end;
    heard(made.text);
  }
  return made;
}

// For each token of an answer its text and its natural log-probability under a model, given all before it.
export async function score({ model, strength, user, signal, limit }, promptIds, ids) {
  const whole = [...promptIds, ...ids].slice(0, limit - 1); // one more is generated, and thrown away
  const body = { model, prompt: whole, max_tokens: 1, temperature: 0, prompt_logprobs: 0, user };
  const answer = await send("POST", "v1/completions", { body, signal, headers: chosen(strength) });
  const found = (await answer.json()).choices[0].prompt_logprobs.slice(promptIds.length);
  return found.map((entry, at) => ({ text: entry[ids[at]].decoded_token, logprob: entry[ids[at]].logprob }));
}

function chosen(strength) {
  return strength === null ? {} : { [STRENGTH]: String(strength) };
}
