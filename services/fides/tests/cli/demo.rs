use crate::shop::{command, ran};

#[test]
fn the_demo_ends_with_both_sides_equal_and_leaves_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let demo = ran(command(folder.path(), &["demo", "--keep", "kept"]).output().unwrap());
    assert_eq!(demo.status, 0, "{}{}", demo.stdout, demo.stderr);
    for expected in ["11,721 cities", "both sides are equal", "exactly that was published", "Confoederatio Helvetica"] {
        assert!(demo.stdout.contains(expected), "{expected}: {}", demo.stdout);
    }
    let config = ["--config", "kept/fides.yaml"];
    let status = ran(command(folder.path(), &[&config[..], &["status", "--json"]].concat()).output().unwrap());
    assert_eq!(status.json()[0]["dead"], 0, "{}", status.stderr);
    let again = ran(command(folder.path(), &["demo", "--keep", "kept"]).output().unwrap());
    assert_eq!(again.status, 64);
    assert!(again.stderr.contains("kept is not empty"), "{}", again.stderr);
}

#[test]
fn without_keep_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let demo = ran(command(folder.path(), &["demo"]).env("TMPDIR", folder.path()).output().unwrap());
    assert_eq!(demo.status, 0, "{}{}", demo.stdout, demo.stderr);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
