//! The demo's directory: `local/` the services' state, `flights.toml` the pipeline, `objects/` what landed, `dead/`
//! dead letters, `landed.txt` the names of the objects as they were when the pipeline ended.

use std::path::{Path, PathBuf};

use crate::exit::{Exit, Problem};

const PIPELINE: &str = include_str!("pipeline.toml");
const PIPELINE_FILE: &str = "flights.toml";
/// Marks a directory as a demo's own, which the next demo may replace: the version of its layout, and who wrote it.
const MARK: &str = ".kinesink-demo";
const VERSION: u32 = 1;

/// Where everything is.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) local: PathBuf,
    pub(crate) pipeline: PathBuf,
    pub(crate) objects: PathBuf,
    landed: PathBuf,
}

/// One object on disk.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

impl Layout {
    /// An empty demo directory; an earlier demo's is replaced, anything else is left alone.
    pub(crate) fn fresh(directory: &Path) -> Result<Self, Problem> {
        let refuse =
            |why: String| Problem::new(Exit::Configuration, format!("cannot use {}: {why}", directory.display()));
        let used = directory.read_dir().is_ok_and(|mut entries| entries.next().is_some());
        if used && !directory.join(MARK).exists() {
            return Err(refuse("it is not empty and no earlier demo made it; choose another with --dir".into()));
        }
        let named = || {
            let url =
                |name: &str| Ok::<_, std::io::Error>(std::path::absolute(directory)?.join(name).display().to_string());
            Ok::<_, std::io::Error>(PIPELINE.replace("{objects}", &url("objects")?).replace("{dead}", &url("dead")?))
        };
        let text = named().map_err(|error| refuse(error.to_string()))?;
        if std::fs::read_to_string(directory.join(PIPELINE_FILE)).is_ok_and(|found| found != text) {
            let why = format!("its {PIPELINE_FILE} was edited; choose another with --dir, or delete that file");
            return Err(refuse(why));
        }
        let set_up = || {
            for name in ["local", "objects", "dead"] {
                let path = directory.join(name);
                if path.exists() {
                    std::fs::remove_dir_all(&path)?;
                }
                std::fs::create_dir_all(&path)?;
            }
            std::fs::write(directory.join(MARK), format!("{VERSION} {}\n", env!("CARGO_PKG_VERSION")))?;
            let layout = Self::at(directory)?;
            std::fs::write(&layout.pipeline, text)?;
            Ok::<_, std::io::Error>(layout)
        };
        set_up().map_err(|error| refuse(error.to_string()))
    }

    /// The directory of an earlier demo.
    pub(crate) fn existing(directory: &Path) -> Result<Self, Problem> {
        let refuse = |message: String| Err(Problem::new(Exit::Configuration, message));
        let Ok(mark) = std::fs::read_to_string(directory.join(MARK)) else {
            let directory = directory.display();
            return refuse(format!("no demo was run in {directory}; run `kinesink demo --dir {directory}` first"));
        };
        let (version, writer) = mark.trim_end().split_once(' ').unwrap_or((mark.trim_end(), "unknown"));
        if version.parse().is_ok_and(|version: u32| version > VERSION) {
            let directory = directory.display();
            return refuse(format!(
                "cannot verify {directory}: kinesink {writer} made it; use that one or a newer one"
            ));
        }
        Self::at(directory)
            .map_err(|error| Problem::new(Exit::Configuration, format!("cannot use {}: {error}", directory.display())))
    }

    fn at(directory: &Path) -> std::io::Result<Self> {
        let directory = directory.canonicalize()?;
        Ok(Self {
            local: directory.join("local"),
            pipeline: directory.join(PIPELINE_FILE),
            objects: directory.join("objects"),
            landed: directory.join("landed.txt"),
        })
    }

    /// The objects as they are now, in name order.
    pub(crate) fn objects_on_disk(&self) -> Result<Vec<Object>, Problem> {
        let mut objects = Vec::new();
        let mut folders = vec![self.objects.clone()];
        let mut walk = || {
            while let Some(folder) = folders.pop() {
                for entry in folder.read_dir()? {
                    let entry = entry?;
                    let metadata = entry.metadata()?;
                    if metadata.is_dir() {
                        folders.push(entry.path());
                    } else if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                        // What is hidden says what an object holds.
                        objects.push(Object { path: entry.path(), bytes: metadata.len() });
                    }
                }
            }
            Ok::<_, std::io::Error>(())
        };
        walk().map_err(|error| self.cannot("list", &error))?;
        objects.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(objects)
    }

    /// Lines in all objects.
    pub(crate) fn lines_on_disk(&self) -> Result<usize, Problem> {
        let mut lines = 0;
        for object in self.objects_on_disk()? {
            let bytes = std::fs::read(&object.path).map_err(|error| self.cannot("read", &error))?;
            lines += bytes.iter().filter(|byte| **byte == b'\n').count();
        }
        Ok(lines)
    }

    /// Writes down which objects are there, so that a later verification can name one that is gone.
    pub(crate) fn note_objects(&self) -> Result<(), Problem> {
        let names = self.objects_on_disk()?.into_iter().map(|object| format!("{}\n", object.path.display()));
        std::fs::write(&self.landed, names.collect::<String>()).map_err(|error| self.cannot("write", &error))
    }

    /// The objects that [`note_objects`](Self::note_objects) wrote down.
    pub(crate) fn noted_objects(&self) -> Result<Vec<PathBuf>, Problem> {
        let text = std::fs::read_to_string(&self.landed).map_err(|error| self.cannot("read", &error))?;
        Ok(text.lines().map(PathBuf::from).collect())
    }

    fn cannot(&self, what: &str, error: &std::io::Error) -> Problem {
        Problem::new(Exit::Failed, format!("cannot {what} the objects in {}: {error}", self.objects.display()))
    }
}
