//! What pages show, that every link leads somewhere, and who may ask.

use std::collections::BTreeSet;

use karat_ui::Request;

use crate::{
    fixture::{Fixture, answer, request},
    tags::assert_ours,
};

#[test]
fn every_page_is_there_and_every_link_leads_to_one() {
    let fixture = Fixture::of("some text");
    let mut seen = BTreeSet::new();
    let mut todo = fixture.addresses();
    while let Some(address) = todo.pop() {
        if !seen.insert(address.clone()) || address == "#content" {
            continue;
        }
        let answer = fixture.get(&address);
        // What was judged or used but never stored is linked all the same.
        let is_gone = answer.status == 404 && address.starts_with("/artifacts/");
        assert!(answer.status == 200 || is_gone, "{address}: {} {}", answer.status, answer.body);
        if answer.content_type.starts_with("text/html") {
            todo.extend(assert_ours(&answer.body));
        }
    }
    assert!(35 < seen.len(), "only {} addresses: {seen:?}", seen.len());
}

#[test]
fn pages_show_what_is_on_record() {
    let fixture = Fixture::of("some text");
    let Fixture { train, other, running, .. } = &fixture;
    let shows = |address: &str, all: &[&str]| {
        let page = fixture.get(address).body;
        for text in all {
            assert!(page.contains(text), "{address} lacks {text}:\n{page}");
        }
    };
    shows("/", &["<strong>5</strong> runs", "1 running", "1 failed", "flights@champion", "✗ fail"]);
    shows("/runs", &[&train.0, "◐ running", "✗ failed", "1 min 2 s", "0.5000", "1 to 5 of 5"]);
    shows(
        &format!("/runs/{train}"),
        &[
            "list.1.some text",
            "18446744073709551615",
            "Loss",
            "Gradient norm",
            "flights@1",
            "and changes that were not committed",
        ],
    );
    shows(&format!("/runs/{running}"), &["◐ running", "Metric on the eval split"]);
    shows(
        &format!("/compare?run={train}&run={other}"),
        &["spec.key", "train 7", "train 8", "more are the same", "Training loss", "k2"],
    );
    shows("/models", &["flights@2", "champion"]);
    shows("/models/flights", &["flights@1", "fail", "rolled back"]);
    shows("/models/flights/1", &["12,345", "champion", "✓ pass", "<svg", "model.json", "forced"]);
    shows("/models/flights/2/lineage", &["verdict: fail", "predictions", "forced to", "In words"]);
    shows("/verdicts", &["✓ pass", "✗ fail", "1 to 2 of 2"]);
    let verdict = format!("/verdicts/{}", fixture.verdict.hex());
    shows(
        &verdict,
        &["auc by slice", "0.7000 to 0.8000", "What was judged", "flights@2", "✗ fail"],
    );
    shows("/promotions", &["forced", "rolled back", "1 to 3 of 3"]);
    shows("/data", &["flights", "1,234"]);
    shows("/ledger", &["2 in all", "numbers", "✗ fail", "Evaluation sets", "1 to 2 of 2"]);
    let snapshot = format!("/data/{}", fixture.snapshot.hex());
    shows(&snapshot, &["1.5 KiB", "! warn", "≥ 44", "0.2500", &train.0]);
    let artifact = format!("/artifacts/{}", fixture.artifact.hex());
    shows(&artifact, &["model.json", "n_parameters&quot;:12345"]);
}

#[test]
fn filters_find_and_what_is_no_filter_is_told() {
    let fixture = Fixture::of("some text");
    let n_rows = |address: &str| fixture.get(address).body.matches("type=\"checkbox\"").count();
    assert_eq!(n_rows("/runs"), 5);
    assert_eq!(n_rows("/runs?step=train"), 3);
    assert_eq!(n_rows("/runs?state=failed"), 1);
    assert_eq!(n_rows("/runs?q=SOME"), 5);
    assert_eq!(n_rows(&format!("/runs?q={}", fixture.train)), 1);
    assert!(fixture.get("/runs?q=nothing").body.contains("Fewer filters find more"));
    assert!(fixture.get("/runs?page=2").body.contains("beyond the last"));
    for address in ["/runs?step=fly", "/runs?state=x", "/runs?sort=x", "/verdicts?outcome=x"] {
        assert_eq!(fixture.get(address).status, 400, "{address}");
    }
    let many: String = (0..9).map(|i| format!("run={i}&")).collect();
    assert_ne!(fixture.get(&format!("/compare?{many}")).status, 200);
}

#[test]
fn an_empty_store_says_what_to_run_on_every_list() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    karat_store::Store::open(dir.path(), karat_store::Access::ReadWrite).expect("a store");
    for address in ["/", "/runs", "/models", "/verdicts", "/promotions", "/data", "/ledger"] {
        let answer = answer(dir.path(), "empty", &request(address));
        assert_ours(&answer.body);
        let advice =
            answer.body.contains("class=\"empty\"") && answer.body.contains("<code>karat ");
        assert!(answer.status == 200 && advice, "{address}: {}", answer.body);
    }
}

#[test]
fn what_is_not_there_is_a_page_that_says_so() {
    let fixture = Fixture::of("some text");
    let zeros = "0".repeat(64);
    for address in [
        "/nothing",
        "/runs/r-0000000000",
        "/models/none",
        "/models/flights/9",
        "/models/flights/1/children",
        &format!("/verdicts/{zeros}"),
        &format!("/data/{zeros}"),
        &format!("/artifacts/{zeros}"),
    ] {
        let answer = fixture.get(address);
        assert_eq!(answer.status, 404, "{address}");
        assert_ours(&answer.body);
    }
    // Of an ambiguous id none is chosen.
    assert_eq!(fixture.get("/runs/r-").status, 404);
}

#[test]
fn pages_are_only_read() {
    let fixture = Fixture::of("some text");
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "BREW"] {
        let asked = Request { method: method.to_owned(), ..request("/") };
        let refused = fixture.answer(&asked);
        assert_eq!((refused.status, refused.allow), (405, Some("GET, HEAD")), "{method}");
    }
    let head = Request { method: "HEAD".to_owned(), ..request("/") };
    assert_eq!(fixture.answer(&head).status, 200);
    let with_body = Request { has_body: true, ..request("/") };
    assert_eq!(fixture.answer(&with_body).status, 413);
}

/// A page of a stranger whose name was pointed at this machine (DNS rebinding) names itself as the host.
#[test]
fn a_host_is_this_machines_by_number_or_nobodys() {
    let fixture = Fixture::of("some text");
    let status = |hosts: &[&str]| {
        let hosts = hosts.iter().map(|&it| it.to_owned()).collect();
        fixture.answer(&Request { hosts, ..request("/") }).status
    };
    for host in
        ["localhost", "LOCALHOST:8741", "127.0.0.1:8741", "[::1]:8741", "[::1]", "10.0.0.7:80"]
    {
        assert_eq!(status(&[host]), 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:8741",
        "localhost.evil.example",
        "127.0.0.1.evil.example:8741",
        "localhost:evil",
        "localhost@evil.example",
        "[::1].evil.example",
        "[::1",
        "127.0.0.1:99999",
        "",
        ":8741",
    ] {
        assert_eq!(status(&[host]), 421, "{host}");
    }
    assert_eq!(status(&[]), 400);
    assert_eq!(status(&["localhost", "evil.example"]), 400);
}

/// One bad file must not take the store's other pages with it.
#[test]
fn a_damaged_record_is_a_page_that_names_the_error() {
    let fixture = Fixture::of("some text");
    let hex = fixture.verdict.hex();
    let path = fixture.dir.path().join("objects/sha256").join(&hex[..2]).join(&hex);
    std::fs::write(path, "rotten").expect("the object can be overwritten");
    let answer = fixture.get(&format!("/verdicts/{hex}"));
    assert_eq!(answer.status, 500);
    assert!(answer.body.contains("<code>object-corrupt</code>"), "{}", answer.body);
    assert_eq!(fixture.get("/verdicts").status, 200);
}
