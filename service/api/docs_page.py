"""/docs: Swagger UI, offline, over a document whose "Try it out" sends what is filled in and nothing else."""

from __future__ import annotations

from copy import deepcopy
from string import Template
from typing import Any

PATH = "/docs"
DOCUMENT_PATH = f"{PATH}/openapi.json"
ASSETS_PATH = f"{PATH}/assets"
_NOT_SENT = {"not sent": {"value": ""}}
# "Send empty value" is ticked for every field, and no parameter may be empty.
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="$root$assets/favicon.png">
<link rel="stylesheet" href="$root$assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="$root$assets/swagger-ui-bundle.js"></script>
<script>
function withoutEmptyFields(request) {
  if (request.body instanceof FormData) {
    const filled = new FormData();
    for (const [name, value] of request.body) if (value !== "") filled.append(name, value);
    request.body = filled;
  }
  return request;
}
SwaggerUIBundle({
  url: "$root$document",
  dom_id: "#swagger-ui",
  deepLinking: true,
  showCommonExtensions: true,
  requestInterceptor: withoutEmptyFields,
});
</script>
</body>
</html>
""")


def docs_page(title: str, root: str) -> str:
    """The page. root: what stands before our paths, where a proxy has put something there."""
    return _PAGE.substitute(title=title, root=root, assets=ASSETS_PATH, document=DOCUMENT_PATH)


def starting_empty(openapi: dict[str, Any]) -> dict[str, Any]:
    """The same document, with an empty example of all that may be left out of a form or of the headers.

    Swagger UI fills examples in, or makes some up where there are none, and sends them.
    """
    shown = deepcopy(openapi)
    for operation in (path["post"] for path in shown["paths"].values() if "post" in path):
        form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["$ref"]
        schema = shown["components"]["schemas"][form.rpartition("/")[2]]
        for name in schema["properties"].keys() - schema["required"]:
            schema["properties"][name]["example"] = ""
        for parameter in operation["parameters"]:
            if "examples" in parameter:
                parameter["examples"] = _NOT_SENT | parameter["examples"]
    return shown
