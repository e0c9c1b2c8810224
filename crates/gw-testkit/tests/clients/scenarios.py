"""One scenario of an official client against a cluster; prints what the client saw as JSON.

usage: scenarios.py elasticsearch|opensearch SCENARIO URL
"""

import json
import sys

if sys.argv[1] == "elasticsearch":
    import elasticsearch as library
    from elasticsearch import Elasticsearch as Client, helpers
else:
    import opensearchpy as library
    from opensearchpy import OpenSearch as Client, helpers

INDEX = "logs"


def documents(ids, op="create", **fields):
    return [
        {"_op_type": op, "_index": INDEX, "_id": str(i), "message": f"line {i}", "n": i, **fields}
        for i in ids
    ]


def outcomes(client, actions, **options):
    """[ok, status, id] of each item, in the order in which the client reports them."""
    seen = []
    results = helpers.streaming_bulk(
        client, actions, raise_on_error=False, raise_on_exception=False, initial_backoff=0, **options
    )
    for ok, item in results:
        (outcome,) = item.values()
        seen.append([ok, outcome.get("status"), outcome.get("_id")])
    return seen


def info(client):
    return {"version": client.info()["version"]["number"], "ping": client.ping()}


def bulk(client):
    count, errors = helpers.bulk(client, documents(range(250)), chunk_size=100)
    client.indices.refresh(index=INDEX)
    everything = client.search(index=INDEX, body={"query": {"match_all": {}}, "size": 3})
    some = client.search(index=INDEX, body={"query": {"ids": {"values": ["7", "8", "none"]}}})
    one = client.search(index=INDEX, body={"query": {"term": {"n": 42}}})
    return {
        "count": count,
        "errors": errors,
        "counted": client.count(index=INDEX)["count"],
        "total": everything["hits"]["total"]["value"],
        "page": len(everything["hits"]["hits"]),
        "ids": [hit["_id"] for hit in some["hits"]["hits"]],
        "term": [hit["_source"]["message"] for hit in one["hits"]["hits"]],
    }


def streaming(client):
    return outcomes(client, documents(range(5)), chunk_size=2)


def resend(client):
    return outcomes(client, documents(range(20)), max_retries=10)


def conflict(client):
    return outcomes(client, documents([1, 2])) + outcomes(client, documents([2, 3]))


def index_again(client):
    return outcomes(client, documents([1], op="index")) + outcomes(client, documents([1], op="index"))


def misfit(client):
    bad = documents([2])
    bad[0]["n"] = "not a number"
    return outcomes(client, documents([1]) + bad + documents([3]))


def stranger(client):
    return outcomes(client, documents([1]) + documents([2], unknown=1))


def too_large(client):
    try:
        helpers.bulk(client, documents(range(3), padding="x" * 1000))
    except library.ApiError if sys.argv[1] == "elasticsearch" else library.TransportError as error:
        return {"status": error.meta.status if hasattr(error, "meta") else error.status_code}
    return {"status": 200}


def busy(client):
    return outcomes(client, documents([1]))


def data_stream(client):
    stamped = {"@timestamp": "2026-11-21T10:00:00Z"}
    return outcomes(
        client,
        documents([1], **stamped) + documents([2], op="index", **stamped) + documents([3]),
    )


def main():
    client_name, scenario, url = sys.argv[1:]
    # A second try of the transport comes at once and is a request of its own.
    client = Client(url, http_compress=scenario == "bulk", retry_on_status=[429, 503], max_retries=2)
    print(json.dumps(globals()[scenario](client)))


main()
