"""/openapi.json is valid, and describes what there is: names, headers, every status, one `Problem`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from service.api.http import create_app
from service.settings import Settings
from tests.zoo import MODEL

OPERATIONS = {
    "predict", "probe", "create_job", "list_jobs", "get_job", "cancel_job", "get_job_results", "list_models",
    "get_model", "livez", "readyz", "metrics",
}  # fmt: skip
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def openapi(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("app")
    return create_app(Settings(spool_dir=folder, jobs_dir=folder)).openapi()


def operations(openapi: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in openapi["paths"].values():
        yield from path.values()


def responses(openapi: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    for operation in operations(openapi):
        for status, response in operation["responses"].items():
            yield int(status), response


def test_it_is_valid(openapi: dict[str, Any]) -> None:
    validate(openapi)


def test_a_server_says_the_same(openapi: dict[str, Any], client: httpx.Client) -> None:
    assert client.get("/openapi.json").json() == openapi


def test_operations_have_names(openapi: dict[str, Any]) -> None:
    names = [operation["operationId"] for operation in operations(openapi)]
    assert sorted(names) == sorted(OPERATIONS)
    assert all(operation["summary"] and operation["description"] for operation in operations(openapi))


def test_a_problem_is_one_component(openapi: dict[str, Any]) -> None:
    for status, response in responses(openapi):
        if status >= 400:
            assert list(response["content"]) == [PROBLEM]
            assert response["content"][PROBLEM]["schema"] == {"$ref": "#/components/schemas/Problem"}
    problem = openapi["components"]["schemas"]["Problem"]
    assert set(problem["required"]) == {"type", "title", "status", "detail", "code", "request_id"}
    assert problem["properties"]["type"]["format"] == "uri-reference"


def test_no_other_shape_of_errors(openapi: dict[str, Any]) -> None:
    assert "ValidationError" not in str(openapi)


def test_the_headers_of_answers(openapi: dict[str, Any]) -> None:
    """Of each response by name, as a component."""
    assert all("X-Request-ID" in response["headers"] for _, response in responses(openapi))
    busy = {status for status, response in responses(openapi) if "Retry-After" in response["headers"]}
    assert busy == {429, 503}
    paths = openapi["paths"]
    for operation, status, name in (
        (paths["/v1/predict"]["post"], "200", "Server-Timing"),
        (paths["/v1/jobs"]["post"], "202", "Location"),
        (paths["/v1/jobs/{job_id}/results"]["get"], "200", "Link"),
    ):
        assert operation["responses"][status]["headers"][name] == {"$ref": f"#/components/headers/{name}"}
    used = {name for _, response in responses(openapi) for name in response["headers"]}
    assert set(openapi["components"]["headers"]) == used


def test_the_upload(openapi: dict[str, Any]) -> None:
    for path in ("/v1/predict", "/v1/probe"):
        body = openapi["paths"][path]["post"]["requestBody"]
        assert body["required"]
        assert "`video/*`" in body["description"]
        assert list(body["content"]) == ["multipart/form-data", "application/octet-stream"]
    for name in ("PredictForm", "ProbeForm"):
        form = openapi["components"]["schemas"][name]
        assert form["required"] == ["video"]
        assert form["properties"]["video"]["format"] == "binary"


def test_the_parameters_of_a_prediction(openapi: dict[str, Any]) -> None:
    parameters = openapi["paths"]["/v1/predict"]["post"]["parameters"]
    assert {parameter["name"] for parameter in parameters} == {
        "model", "stream", "top_k", "start_seconds", "end_seconds", "window", "stride", "min_score",
        "min_segment_seconds", "smoothing", "region", "strict", "X-Request-Timeout",
    }  # fmt: skip
    assert all(parameter["description"] for parameter in parameters)
    [timeout] = [parameter for parameter in parameters if parameter["name"] == "X-Request-Timeout"]
    assert (timeout["in"], timeout["required"]) == ("header", False)
    assert {example["value"] for example in timeout["examples"].values()} == {2.5, 3600}


def test_what_a_body_may_say_too_has_its_default_in_words(openapi: dict[str, Any]) -> None:
    """Clients that are generated send every default: in the query and in the body, which is refused."""
    for path in ("/v1/predict", "/v1/probe", "/v1/jobs"):
        parameters = openapi["paths"][path]["post"]["parameters"]
        assert [parameter["name"] for parameter in parameters if "default" in parameter["schema"]] == []
    fields = openapi["components"]["schemas"]["JobRequest"]["properties"]
    assert [name for name, field in fields.items() if "default" in field] == []
    assert "Default: 5." in fields["top_k"]["description"]
    [limit] = [each for each in openapi["paths"]["/v1/jobs"]["get"]["parameters"] if each["name"] == "limit"]
    assert limit["schema"]["default"] == 100, "where there is no body, it is where generators look for it"


def test_bounds_are_those_of_json_schema(openapi: dict[str, Any]) -> None:
    """And not those of a validator, which no generator reads."""
    assert re.findall(r"'(?:ge|gt|le|lt)': ", str(openapi)) == []
    schemas = openapi["components"]["schemas"]
    assert schemas["PredictForm"]["properties"]["window"]["minimum"] == 1
    assert schemas["PredictForm"]["properties"]["end_seconds"]["exclusiveMinimum"] == 0
    score = schemas["JobRequest"]["properties"]["min_score"]["anyOf"][0]
    assert (score["minimum"], score["maximum"]) == (0, 1)
    [limit] = [each for each in openapi["paths"]["/v1/jobs"]["get"]["parameters"] if each["name"] == "limit"]
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"]) == (1, 1000)


def test_a_prediction_of_one_model_or_several(openapi: dict[str, Any]) -> None:
    answer = openapi["paths"]["/v1/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert [each["$ref"].rpartition("/")[2] for each in answer["anyOf"]] == ["Prediction", "Predictions"]


def test_each_status_of_each_operation(openapi: dict[str, Any]) -> None:
    """A probe is never busy nor late: it has no deadline; what is wrong with a file it mostly answers."""
    read = {"200", "400", "500"}
    upload = {"400", "404", "408", "413", "415", "422", "500", "503", "507"}
    stored = {"400", "404", "500", "503"}
    assert {operation["operationId"]: set(operation["responses"]) for operation in operations(openapi)} == {
        "predict": {"200", "429", "504"} | upload,
        "probe": {"200"} | upload,
        "create_job": {"202", "403"} | upload,
        "list_jobs": read | {"503"},
        "get_job": {"200"} | stored,
        "cancel_job": {"200"} | stored,
        "get_job_results": {"200", "507"} | stored,
        "list_models": read,
        "get_model": read | {"404", "503"},
        "livez": read,
        "readyz": read | {"503"},
        "metrics": read,
    }


def test_an_error_is_documented_with_its_code_and_what_to_do(openapi: dict[str, Any]) -> None:
    responses = openapi["paths"]["/v1/predict"]["post"]["responses"]
    assert "- `not_a_video`: " in responses["422"]["description"]
    assert "What to do: " in responses["422"]["description"]
    assert all("/v1/jobs" in responses[status]["description"] for status in ("413", "504"))


def test_a_job_leads_to_what_may_be_done_with_it(openapi: dict[str, Any]) -> None:
    links = openapi["paths"]["/v1/jobs"]["post"]["responses"]["202"]["links"]
    assert {link["operationId"] for link in links.values()} == {"get_job", "cancel_job", "get_job_results"}


def test_what_a_server_sends_is_documented(openapi: dict[str, Any], client: httpx.Client) -> None:
    """Content types and headers of real answers, one an operation that needs no clip."""
    for path, template in (
        ("/livez", "/livez"),
        ("/readyz", "/readyz"),
        ("/metrics", "/metrics"),
        ("/v1/models", "/v1/models"),
        (f"/v1/models/{MODEL}", "/v1/models/{name}"),
        ("/v1/models/nobody", "/v1/models/{name}"),
        ("/v1/jobs", "/v1/jobs"),
        ("/v1/jobs/nobody", "/v1/jobs/{job_id}"),
        ("/v1/jobs/nobody/results", "/v1/jobs/{job_id}/results"),
        ("/livez?x=1", "/livez"),
        ("/readyz?x=1", "/readyz"),
        ("/metrics?x=1", "/metrics"),
        ("/v1/models?x=1", "/v1/models"),
        (f"/v1/models/{MODEL}?x=1", "/v1/models/{name}"),
        ("/v1/jobs?x=1", "/v1/jobs"),
        ("/v1/jobs/nobody?x=1", "/v1/jobs/{job_id}"),
    ):
        answer = client.get(path)
        said = openapi["paths"][template]["get"]["responses"][str(answer.status_code)]
        assert answer.headers["content-type"].partition(";")[0] in said["content"]
        request_id = openapi["components"]["headers"]["X-Request-ID"]["schema"]["pattern"]
        assert re.match(request_id, answer.headers["x-request-id"])
