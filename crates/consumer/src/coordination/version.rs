//! Which algorithm divides the leases: row `Migration3.0`, written by KCL 3.x and by whoever is set to `kcl-3`.

use kinesink_aws::dynamodb::types::AttributeValue;

use super::tables::Home;
use crate::lease::{Item, number, text};

pub(super) const MIGRATION: &str = "Migration3.0";
const VERSION: &str = "cv";
const MODIFIED_BY: &str = "mb";
const MODIFIED_MS: &str = "mts";
const HISTORY: &str = "h";

/// What the row's `cv` says. No row: nobody of KCL 3.x has been here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// Rolled back: leases are taken as in KCL 2.x.
    TwoX,
    /// KCL 3.x beside 2.x: leases are taken as in 2.x, and workers report their metrics.
    UpgradeFromTwoX,
    /// A leader assigns; an operator may still roll back.
    ThreeXWithRollback,
    /// A leader assigns, for good.
    ThreeX,
}

impl Version {
    const ALL: [Self; 4] = [Self::TwoX, Self::UpgradeFromTwoX, Self::ThreeXWithRollback, Self::ThreeX];

    fn as_text(self) -> &'static str {
        match self {
            Self::TwoX => "CLIENT_VERSION_2X",
            Self::UpgradeFromTwoX => "CLIENT_VERSION_UPGRADE_FROM_2X",
            Self::ThreeXWithRollback => "CLIENT_VERSION_3X_WITH_ROLLBACK",
            Self::ThreeX => "CLIENT_VERSION_3X",
        }
    }

    /// What a row says. The error is the text of a version that is not known here.
    pub(super) fn of(row: &Item) -> Result<Self, String> {
        let text = row.get(VERSION).and_then(|version| version.as_s().ok()).map_or("", String::as_str);
        Self::ALL.into_iter().find(|version| version.as_text() == text).ok_or_else(|| text.to_owned())
    }

    /// Whether leases are assigned by a leader, and taken by nobody.
    pub(crate) fn assigns(self) -> bool {
        matches!(self, Self::ThreeX | Self::ThreeXWithRollback)
    }

    /// Whether workers report their metrics.
    pub(super) fn reports(self) -> bool {
        self != Self::TwoX
    }
}

/// The row with which a new application begins: assigned by a leader.
pub(super) fn first_row(home: Home, worker: &str, now_ms: u64) -> Item {
    let modified = |version: &str| {
        Item::from([
            (VERSION.into(), text(version)),
            (MODIFIED_BY.into(), text(worker)),
            (MODIFIED_MS.into(), number(now_ms)),
        ])
    };
    let mut row = modified(Version::ThreeX.as_text());
    row.insert(HISTORY.into(), AttributeValue::L(vec![AttributeValue::M(modified("CLIENT_VERSION_INIT"))]));
    row.extend(home.identity(MIGRATION, "CLIENT_VERSION_MIGRATION"));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_one_algorithm() {
        let said = |text_: &str| {
            let version = Version::of(&Item::from([("cv".into(), text(text_))]))?;
            Ok::<_, String>((version.assigns(), version.reports()))
        };
        assert_eq!(said("CLIENT_VERSION_2X"), Ok((false, false)));
        assert_eq!(said("CLIENT_VERSION_UPGRADE_FROM_2X"), Ok((false, true)));
        assert_eq!(said("CLIENT_VERSION_3X_WITH_ROLLBACK"), Ok((true, true)));
        assert_eq!(said("CLIENT_VERSION_3X"), Ok((true, true)));
        assert_eq!(said("CLIENT_VERSION_4X"), Err("CLIENT_VERSION_4X".into()));
        assert_eq!(Version::of(&Item::new()), Err(String::new()));
    }
}
