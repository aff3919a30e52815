//! The environment variables that CI systems set and `karat ci` reads; docs/ci.md lists them.

use super::read;

/// `true` on GitHub Actions.
pub(crate) const GITHUB_ACTIONS: &str = "GITHUB_ACTIONS";
/// What started the workflow: `pull_request`, `push`, `merge_group`.
pub(crate) const GITHUB_EVENT_NAME: &str = "GITHUB_EVENT_NAME";
/// A JSON file about it.
pub(crate) const GITHUB_EVENT_PATH: &str = "GITHUB_EVENT_PATH";
/// The branch that a pull request is to be merged into.
pub(crate) const GITHUB_BASE_REF: &str = "GITHUB_BASE_REF";
/// The branch or tag that was pushed: `refs/heads/main`.
pub(crate) const GITHUB_REF: &str = "GITHUB_REF";
/// File that the job's summary is appended to.
pub(crate) const GITHUB_STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";
/// File that the step's outputs are appended to.
pub(crate) const GITHUB_OUTPUT: &str = "GITHUB_OUTPUT";
/// `https://github.com`, for links.
pub(crate) const GITHUB_SERVER_URL: &str = "GITHUB_SERVER_URL";
/// `owner/name`, for links.
pub(crate) const GITHUB_REPOSITORY: &str = "GITHUB_REPOSITORY";
/// Number of the workflow's run, for links.
pub(crate) const GITHUB_RUN_ID: &str = "GITHUB_RUN_ID";

/// `true` on GitLab.
pub(crate) const GITLAB_CI: &str = "GITLAB_CI";
/// Number of the merge request, in its pipelines only.
pub(crate) const CI_MERGE_REQUEST_IID: &str = "CI_MERGE_REQUEST_IID";
/// The branch that a merge request is to be merged into.
pub(crate) const CI_MERGE_REQUEST_TARGET_BRANCH_NAME: &str = "CI_MERGE_REQUEST_TARGET_BRANCH_NAME";
/// Where the merge request's branch left that branch.
pub(crate) const CI_MERGE_REQUEST_DIFF_BASE_SHA: &str = "CI_MERGE_REQUEST_DIFF_BASE_SHA";
/// The branch that was pushed.
pub(crate) const CI_COMMIT_BRANCH: &str = "CI_COMMIT_BRANCH";
/// The commit before the push; zeros for a new branch.
pub(crate) const CI_COMMIT_BEFORE_SHA: &str = "CI_COMMIT_BEFORE_SHA";
/// The project's default branch.
pub(crate) const CI_DEFAULT_BRANCH: &str = "CI_DEFAULT_BRANCH";
/// The page of what runs, for links.
pub(crate) const GITLAB_PAGE: &str = "CI_JOB_URL";

/// Set on Jenkins.
pub(crate) const JENKINS_URL: &str = "JENKINS_URL";
/// Number of the change request, in builds of one only.
pub(crate) const CHANGE_ID: &str = "CHANGE_ID";
/// The branch that a change request is to be merged into.
pub(crate) const CHANGE_TARGET: &str = "CHANGE_TARGET";
/// The branch that is built.
pub(crate) const BRANCH_NAME: &str = "BRANCH_NAME";
/// `true` on the default branch.
pub(crate) const BRANCH_IS_PRIMARY: &str = "BRANCH_IS_PRIMARY";
/// The commit that was built before on this branch.
pub(crate) const GIT_PREVIOUS_COMMIT: &str = "GIT_PREVIOUS_COMMIT";
/// The build's page, for links.
pub(crate) const BUILD_URL: &str = "BUILD_URL";

/// A variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    read(name)
}
