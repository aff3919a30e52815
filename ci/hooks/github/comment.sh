#!/usr/bin/env bash
# comment.sh FILE: puts FILE on the pull request of HEAD_SHA. Its first line is a hidden marker; a comment of ours with that
# marker is replaced, so that a pull request has one. That it cannot be put there is a warning: the check's result stands.
set -euo pipefail

file=$1
warn() {
    echo "::warning title=karat::$1"
    exit 0
}
[[ -f $file ]] || warn "there is no comment to put"
[[ ${HEAD_SHA:-} =~ ^[0-9a-f]{40}$ ]] || warn "HEAD_SHA is no commit"
marker=$(head -n 1 "$file")
[[ $marker =~ ^\<!--\ karat:[A-Za-z0-9.:%_-]+\ --\>$ ]] || warn "the comment has no marker"

# Owner and branch are the author's words: they go as values of a query, and only a number comes back.
export HEAD_SHA
number=$(gh api --method GET "repos/$REPOSITORY/pulls" -f state=open -f "head=$HEAD_OWNER:$HEAD_BRANCH" \
    --jq '[.[] | select(.head.sha == env.HEAD_SHA)][0].number') || warn "the pull requests could not be listed"
[[ $number =~ ^[0-9]+$ ]] || warn "no open pull request has this commit at its head"

export MARKER=$marker
id=$(gh api --paginate "repos/$REPOSITORY/issues/$number/comments" \
    --jq '.[] | select(.user.login == "github-actions[bot]") | select(.body | startswith(env.MARKER)) | .id' | head -n 1) ||
    warn "the comments could not be listed"
if [[ $id =~ ^[0-9]+$ ]]; then
    gh api --silent --method PATCH "repos/$REPOSITORY/issues/comments/$id" -F "body=@$file" || warn "the comment could not be updated"
else
    gh api --silent --method POST "repos/$REPOSITORY/issues/$number/comments" -F "body=@$file" || warn "the comment could not be made"
fi
