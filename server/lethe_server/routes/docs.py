"""A page that shows the API without fetching anything from elsewhere."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter()

PAGE = """<!doctype html>
<meta charset="utf-8"><title>Lethe API</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
  code { font-size: 1rem } summary { cursor: pointer } pre { overflow: auto; background: #f4f4f4; padding: 1rem }
</style>
<h1>Lethe API</h1>
<p>OpenAI-compatible inference and the administration of forget modules. Keys go into the header
<code>Authorization: Bearer</code>. The machine-readable description is <a href="openapi.json">openapi.json</a>.</p>
<main></main>
<script>
  const add = (parent, tag, textContent) =>
    parent.appendChild(Object.assign(document.createElement(tag), { textContent }));
  fetch("openapi.json").then(answer => answer.json()).then(api => {
    const listed = Object.entries(api.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => [path, method, operation]));
    for (const [path, method, operation] of listed) {
      const entry = add(document.querySelector("main"), "details", "");
      add(add(entry, "summary", ""), "code", `${method.toUpperCase()} ${path}`);
      add(entry, "p", operation.description || operation.summary || "");
      const body = operation.requestBody?.content["application/json"].schema;
      const schema = body?.$ref ? api.components.schemas[body.$ref.split("/").pop()] : body;
      if (schema) add(entry, "pre", JSON.stringify(schema, null, 2));
    }
  });
</script>
"""


@router.get("/docs", include_in_schema=False)
async def docs() -> HTMLResponse:
    return HTMLResponse(PAGE)
