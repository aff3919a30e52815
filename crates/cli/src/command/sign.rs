//! `karat sign`, and `karat verify --key`: who stands for which bytes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use karat_attest::{
    AttestError, Bundle, PublicKey, SigningKey,
    bundle::{BUNDLE_BYTES_MAX, Verified},
    key::KEY_BYTES_MAX,
    oms::{self, Files, Manifest},
};
use karat_core::{Digest, Event, Exit, Failure, ModelRef, Observer};
use karat_pipeline::{
    Signer,
    sign::{MODEL_FOLDER, MODEL_SIGNATURE, PROVENANCE_SIGNATURE, VERDICT_SIGNATURE, files_of},
};
use karat_store::Access;
use serde_json::json;

use crate::{
    args::{SignArgs, VerifyArgs},
    command::run::copy_out,
    context::Session,
    env,
    folder::{digest_of, files_below},
};

/// What this program was built from.
const LOCK_FILE: &[u8] = include_bytes!("../../../../Cargo.lock");

pub(crate) fn run(session: &Session, args: &SignArgs) -> Result<Exit, Failure> {
    let key = read_signing_key(session, &args.key)?;
    let workshop = session.open_existing()?;
    let lab = session.lab(&workshop);
    let version = lab.resolve(&args.version)?;
    let verdict = lab.verdict_to_sign(&version, Some(&session.policy()?))?;
    let documents = lab.sign(&mut session.observer(), &version, verdict, signer(&key))?;
    let public = key.public();
    let mut text = format!(
        "{} signed with {} key {}",
        version.label(),
        public.curve(),
        &public.fingerprint()[..8]
    );
    if verdict.is_none() {
        text.push_str("; no gate has judged it, so no verdict is signed");
    }
    if let Some(out) = &args.out {
        let out = session.path(out);
        let (model, files) = (out.join(MODEL_FOLDER), files_of(&version));
        copy_out(lab.store, &model, &files)?;
        copy_out(lab.store, &out, &documents)?;
        let written = files.keys().map(|it| model.join(it));
        for path in written.chain(documents.keys().map(|it| out.join(it))) {
            text.push_str(&format!("\n  {}", path.display()));
        }
    }
    session.text(&text);
    session.json(&json!({
        "event": "signed",
        "version": version.label(),
        "key": public.fingerprint(),
        "documents": documents,
    }));
    Ok(Exit::Pass)
}

/// What the documents say besides what is on record.
pub(crate) fn signer(key: &SigningKey) -> Signer<'_> {
    Signer { key, lock: Digest::of(LOCK_FILE), epoch: env::source_date_epoch() }
}

/// Reads a private key, and warns when others on this machine could have.
pub(crate) fn read_signing_key(session: &Session, path: &Path) -> Result<SigningKey, Failure> {
    let path = session.path(path);
    let text = read_key(&path)?;
    if is_exposed(&path) {
        session.observer().observe(Event::Warned {
            code: "key-exposed".to_owned(),
            message: format!(
                "others on this machine can read the private key `{0}`: `chmod 600 {0}`",
                path.display()
            ),
        });
    }
    SigningKey::from_pem(text).map_err(|error| named(error, &path))
}

fn read_key(path: &Path) -> Result<String, Failure> {
    let text = read_at_most(path, KEY_BYTES_MAX);
    text.and_then(|it| String::from_utf8(it).map_err(std::io::Error::other)).map_err(|error| {
        let message = format!("the key `{}` cannot be read", path.display());
        Failure::new("key-unreadable", Exit::Usage, message).because(&error)
    })
}

fn read_at_most(path: &Path, n_bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let n_bytes = fs::metadata(path)?.len();
    if (n_bytes_max as u64) < n_bytes {
        let message = format!("it has {n_bytes} bytes, at most {n_bytes_max} are read");
        return Err(std::io::Error::other(message));
    }
    fs::read(path)
}

fn is_exposed(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o077 != 0)
}

fn named(error: AttestError, path: &Path) -> Failure {
    Failure::from(error).detail(format!("in {}", path.display()))
}

/// `karat verify --key`: a folder, a file or a version, against a signature.
pub(crate) fn verify(session: &Session, args: &VerifyArgs, what: &str) -> Result<Exit, Failure> {
    let keys = args.key.iter().map(|path| {
        let path = session.path(path);
        PublicKey::from_pem(&read_key(&path)?).map_err(|error| named(error, &path))
    });
    let keys: Vec<PublicKey> = keys.collect::<Result<_, _>>()?;
    let given = args.signature.as_ref().map(|it| session.path(it));
    let path = session.path(Path::new(what));
    let reference = what.parse::<ModelRef>().ok().filter(|_| !path.exists());
    let (signed, n_files) = match reference {
        Some(reference) => verify_version(session, &keys, &reference, given)?,
        None => verify_path(&keys, &path, given)?,
    };
    for Signed { place, verified } in &signed {
        let statement = &verified.statement;
        let claim = match statement.predicate_type.as_str() {
            oms::PREDICATE_TYPE => format!("exactly these {n_files} files"),
            karat_attest::verdict::PREDICATE_TYPE => {
                format!("a verdict: {}", statement.predicate["result"].as_str().unwrap_or("?"))
            }
            karat_attest::provenance::PREDICATE_TYPE => "how it was trained".to_owned(),
            other => other.chars().filter(|c| !c.is_control()).collect(),
        };
        let (curve, fingerprint) = (verified.key.curve(), verified.key.fingerprint());
        session.text(&format!("{place}: {claim}, signed with {curve} key {}", &fingerprint[..8]));
        session.json(&json!({
            "event": "signature_verified",
            "signature": place,
            "predicate_type": statement.predicate_type,
            "subject": statement.subject,
            "key": fingerprint,
        }));
    }
    Ok(Exit::Pass)
}

/// An accepted signature and where it lay.
struct Signed {
    place: String,
    verified: Verified,
}

fn verify_path(
    keys: &[PublicKey],
    path: &Path,
    given: Option<PathBuf>,
) -> Result<(Vec<Signed>, usize), Failure> {
    let kind = fs::symlink_metadata(path).map_err(|error| {
        let message = format!("`{}` cannot be read", path.display());
        Failure::new("file-unreadable", Exit::Usage, message)
            .because(&error)
            .hint("a folder, a file, or a version as `model@version` can be verified")
    })?;
    let signature = given.unwrap_or_else(|| beside(path));
    let verified = open(&signature, keys)?;
    let manifest = match verified.statement.predicate_type.as_str() {
        oms::PREDICATE_TYPE => Some(Manifest::read(&verified)),
        _ => None,
    };
    let manifest = manifest.transpose().map_err(|error| named(error, &signature))?;
    let place = signature.display().to_string();
    if kind.is_dir() {
        let itself = below(path, &signature);
        let is_left_out = |name: &str| {
            oms::is_ignored(name, itself.as_deref())
                || manifest.as_ref().is_some_and(|it| it.is_ignored(name))
        };
        let files = files_below(path, &is_left_out)?;
        match &manifest {
            Some(manifest) => manifest.compare(&files).map_err(|error| named(error, &signature))?,
            None => demand_subject(&verified, &[oms::root_digest(&files)], &signature)?,
        }
        return Ok((vec![Signed { place, verified }], files.len()));
    }
    if !kind.is_file() {
        let message =
            format!("`{}` is no regular file, which no signature can cover", path.display());
        return Err(Failure::new("signature-mismatch", Exit::Fail, message));
    }
    let digest = digest_of(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match &manifest {
        Some(manifest) => {
            manifest.compare_single(&name, &digest).map_err(|error| named(error, &signature))?;
        }
        None => demand_subject(&verified, &[digest], &signature)?,
    }
    Ok((vec![Signed { place, verified }], 1))
}

fn verify_version(
    session: &Session,
    keys: &[PublicKey],
    reference: &ModelRef,
    given: Option<PathBuf>,
) -> Result<(Vec<Signed>, usize), Failure> {
    let workshop = session.open(Access::ReadOnly)?;
    let lab = session.lab(&workshop);
    let version = lab.resolve(reference)?;
    let files = files_of(&version);
    // What is compared are the bytes, not what the record says of them.
    let mut found = Files::new();
    for (name, digest) in &files {
        found.insert(name.clone(), Digest::of(&lab.store.read(digest)?));
    }
    let about = [oms::root_digest(&found), version.manifest];
    if let Some(signature) = given {
        let verified = open(&signature, keys)?;
        accept(&verified, &found, &about).map_err(|error| named(error, &signature))?;
        let place = signature.display().to_string();
        return Ok((vec![Signed { place, verified }], found.len()));
    }
    let mut refused: Option<AttestError> = None;
    for signing in lab.signings(&version)? {
        let mut accepted = Vec::new();
        let mut wrong: Option<AttestError> = None;
        for name in [MODEL_SIGNATURE, VERDICT_SIGNATURE, PROVENANCE_SIGNATURE] {
            let Some(digest) = signing.get(name) else { continue };
            let bytes = lab.store.read(digest)?;
            let verified = Bundle::parse(&bytes).and_then(|it| it.verify(keys));
            match verified.and_then(|it| accept(&it, &found, &about).map(|()| it)) {
                Ok(verified) => {
                    let place = format!("{} {name}", version.label());
                    accepted.push(Signed { place, verified });
                }
                Err(error) => wrong = Some(error),
            }
        }
        // One signing in which everything is right is enough.
        match wrong {
            None if signing.contains_key(MODEL_SIGNATURE) => return Ok((accepted, found.len())),
            wrong => refused = refused.or(wrong),
        }
    }
    let label = version.label();
    Err(match refused {
        Some(error) => Failure::from(error),
        None => {
            Failure::new("signature-missing", Exit::Fail, format!("nobody has signed `{label}`"))
                .hint(format!("`karat sign {label} --key KEY.pem` signs it"))
        }
    })
}

fn accept(verified: &Verified, files: &Files, about: &[Digest]) -> Result<(), AttestError> {
    if verified.statement.predicate_type == oms::PREDICATE_TYPE {
        return Manifest::read(verified)?.compare(files);
    }
    is_about(verified, about)
}

fn is_about(verified: &Verified, about: &[Digest]) -> Result<(), AttestError> {
    if about.iter().any(|digest| verified.statement.is_about(digest)) {
        return Ok(());
    }
    Err(AttestError::Invalid { reason: "its statement is about other bytes".to_owned() })
}

fn demand_subject(verified: &Verified, about: &[Digest], signature: &Path) -> Result<(), Failure> {
    is_about(verified, about).map_err(|error| named(error, signature))
}

fn open(signature: &Path, keys: &[PublicKey]) -> Result<Verified, Failure> {
    let bytes = read_at_most(signature, BUNDLE_BYTES_MAX).map_err(|error| {
        let message = format!("there is no signature `{}`", signature.display());
        Failure::new("signature-missing", Exit::Fail, message)
            .because(&error)
            .hint("`--signature FILE` names it")
    })?;
    let verified = Bundle::parse(&bytes).and_then(|it| it.verify(keys));
    verified.map_err(|error| named(error, signature))
}

/// Where a signature usually lies: in the folder, else beside it.
fn beside(path: &Path) -> PathBuf {
    let inside = path.join(MODEL_SIGNATURE);
    if inside.is_file() {
        return inside;
    }
    // Without the slash at the end that a shell completes.
    let mut name = path.components().collect::<PathBuf>().into_os_string();
    name.push(".sig");
    name.into()
}

/// `path` as it is called below `folder`, if it lies there.
fn below(folder: &Path, path: &Path) -> Option<String> {
    let (folder, path) = (folder.canonicalize().ok()?, path.canonicalize().ok()?);
    Some(path.strip_prefix(folder).ok()?.to_str()?.to_owned())
}
