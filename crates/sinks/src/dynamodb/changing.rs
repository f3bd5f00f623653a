//! Chains of changes to requests.

use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::{Failure, Reject};

use super::attributes::Attributes;
use super::chain::{Chain, Link, Outcome, Sending};
use super::config::REFUSED_TO;
use super::emitter::DynamoDbEmitter;
use super::error::{Action, Verdict};
use super::lanes::Answer;
use super::notes::{self, NOTES_OF_A_WINDOW_MAX, There};
use super::requests::{self, Met, OverMark};
use super::sending::bug;
use super::update::Update;
use super::write::{Change, Rank, Write, expiry};

/// Updates of one item that go in one request.
const FOLD_RECORDS_MAX: usize = 1_000;
/// Of what they set and append, and a larger one alone.
const FOLD_BYTES_MAX: usize = 64 * 1024;

impl<U: Send + Sync> Sending<'_, U> {
    /// Makes each change of the chain once, in order, as many as possible in a request. Each request is made on the condition
    /// that none of its changes has been made yet; where some have, the item says which, and the others are sent. What is refused
    /// is not made, and the next that is made says so in the item, or a request of its own: only there it outlives this process.
    pub(super) async fn update(&self, chain: Chain) -> (Chain, Outcome) {
        let mut outcome = Outcome::default();
        let mut links = chain.links().to_vec();
        let mut records_max = FOLD_RECORDS_MAX;
        // Refused, and no item says so yet.
        let mut owed: Vec<Rank> = Vec::new();
        // What the item said, once a condition did not hold.
        let mut known: Option<There> = None;
        // Each turn sends, refuses or drops one link at least, halves how many are tried at a time, or knows more of the item.
        while let Some(first) = links.first() {
            if let Some(why) = first.refused.clone() {
                self.refuse_first(&mut links, why, &mut owed, known.as_ref(), &mut outcome);
                continue;
            }
            if let Some(there) = known.as_mut().filter(|there| there.has(&first.rank)) {
                if let Err(why) = self.decided(first, there, &mut outcome).await {
                    outcome.failed(&links, why);
                    return (chain, outcome);
                }
                links.remove(0);
                continue;
            }
            let replacing = replacing(&links);
            let (sent, result) = match replacing.and_then(|place| Some((place, links.get(place)?))) {
                Some((place, link)) => (place + 1, self.put_one(link.index).await),
                None => self.update_first(&links, records_max, &owed, known.as_ref()).await,
            };
            match result {
                Ok(Met::Written) => {
                    let refused = links.drain(..sent).filter_map(|link| Some((link.index, link.refused?)));
                    outcome.refused.extend(refused);
                    owed.clear();
                    records_max = (records_max * 2).min(FOLD_RECORDS_MAX);
                }
                // Of what is there, the service may say nothing.
                Ok(Met::There(there)) if there.decided().is_none() => {
                    outcome.overtaken.extend(links.drain(..sent).map(|link| link.index));
                }
                Ok(Met::There(there)) if known.as_ref() == Some(&there) => {
                    outcome.failed(&links, self.unexplained());
                    return (chain, outcome);
                }
                Ok(Met::There(there)) => {
                    drop_decided(&mut owed, &there);
                    known = Some(there);
                }
                Ok(Met::Foreign(why)) => {
                    outcome.refused.extend(links.drain(..).map(|link| (link.index, why.clone())));
                }
                Err(Verdict::Refused(why) | Verdict::Unclear { why, .. }) => match replacing {
                    // What it would have replaced counts then.
                    Some(place) => refuse(links.get_mut(place), why),
                    None if sent == 1 => {
                        refuse(links.first_mut(), why);
                        records_max = 1;
                    }
                    None => records_max = (sent / 2).max(1),
                },
                Err(why) => {
                    outcome.failed(&links, why);
                    return (chain, outcome);
                }
            }
        }
        self.leave(&chain, owed, &mut outcome).await;
        (chain, outcome)
    }

    /// It is to be noted, unless it is, or was one of more.
    fn refuse_first(
        &self,
        links: &mut Vec<Link>,
        why: Reject,
        owed: &mut Vec<Rank>,
        known: Option<&There>,
        outcome: &mut Outcome,
    ) {
        let Link { index, rank, .. } = links.remove(0);
        outcome.refused.push((index, why));
        // By a version the item need not say it: the highest stays.
        if matches!(rank, Rank::Position(_)) && owed.len() < NOTES_OF_A_WINDOW_MAX {
            owed.extend(Some(rank).filter(|rank| known.is_none_or(|there| there.decided() < Some(rank))));
            if outcome.refused.len() >= NOTES_OF_A_WINDOW_MAX && !self.emitter.config.is_replay {
                outcome.refuse_rest(links.drain(..));
            }
        }
    }

    /// Has the item say what was refused behind all that was made, where each change counts: once one is made behind it, it could not be
    /// told from what is made. An item that has no room for it does not say it.
    async fn leave(&self, chain: &Chain, mut owed: Vec<Rank>, outcome: &mut Outcome) {
        let DynamoDbEmitter { config, traffic, .. } = self.emitter;
        if !config.counts() {
            return;
        }
        // Each turn has fewer.
        while let (Some(first), Some(last)) = (owed.first(), owed.last()) {
            let mut update = Update::default();
            update.set(REFUSED_TO, last.to_attribute());
            update.refused = positions(&owed);
            if let Some((ttl, value)) = self.expiry_of_notes(chain) {
                update.set_default(ttl, value);
            }
            let lane = self.emitter.traffic.lanes.enter().await;
            let item = (self.table.attributes_of(&chain.key), update);
            let met = requests::request_update(config, &traffic.pace, item, (first, None), OverMark::Whole).await;
            self.emitter.answered(lane, Answer::of(&met), &met);
            match self.explained(Action::UpdateItem, met).await {
                // By this worker or another.
                Ok(Met::There(there)) if drop_decided(&mut owed, &there) => {}
                Ok(Met::There(_)) => return outcome.failed(&[], self.unexplained()),
                Ok(Met::Written | Met::Foreign(_)) | Err(Verdict::Refused(_)) => return,
                Err(why) => return outcome.failed(&[], why),
            }
        }
    }

    /// When an item expires that says nothing else.
    fn expiry_of_notes(&self, chain: &Chain) -> Option<(&str, AttributeValue)> {
        let config = &self.emitter.config;
        let arrival = self.batch.items.get(chain.last())?.record.arrival;
        Some((config.ttl.as_deref()?, expiry(arrival, config.expire_after?)))
    }

    fn unexplained(&self) -> Verdict {
        let table = &self.emitter.config.table;
        Verdict::Failed(Failure::transient(format!(
            "cannot update an item in table {table}: a condition does not hold, though by what is there it should"
        )))
    }

    /// What an item has, or had before what it has; a dead letter of which it says that it was refused is made now.
    async fn decided(&self, link: &Link, there: &mut There, outcome: &mut Outcome) -> Result<(), Verdict> {
        if self.emitter.config.is_replay {
            match self.make_noted(link, there).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(Verdict::Refused(why)) => {
                    outcome.refused.push((link.index, why));
                    return Ok(());
                }
                Err(why) => return Err(why),
            }
        }
        outcome.decided(link, there);
        Ok(())
    }

    /// Makes the change, if it is noted as refused and can be read now. Says whether it did.
    async fn make_noted(&self, link: &Link, there: &mut There) -> Result<bool, Verdict> {
        if !there.notes(&link.rank) {
            return Ok(false);
        }
        let lane = self.emitter.traffic.lanes.enter().await;
        let Change::Update(key, update) = self.write_at(link.index)?.change else { return Ok(false) };
        let _reservation = self.emitter.encoding.reserve(update.bytes()).await;
        let DynamoDbEmitter { config, traffic, .. } = self.emitter;
        let made = notes::make(config, &traffic.pace, (key, update), &link.rank, there).await;
        self.emitter.answered(lane, Answer::of(&made), &made);
        self.explained(Action::UpdateItem, made).await
    }

    /// Sends the first changes together, and says how many they are.
    async fn update_first(
        &self,
        links: &[Link],
        records_max: usize,
        owed: &[Rank],
        known: Option<&There>,
    ) -> (usize, Result<Met, Verdict>) {
        if let Some(link) = links.first().filter(|link| link.replaces) {
            return (1, self.put_one(link.index).await);
        }
        let lane = self.emitter.traffic.lanes.enter().await;
        let mut folded: Option<Folded<'_>> = None;
        let is_noted = |rank: &Rank| known.is_some_and(|there| there.notes(rank));
        let can_fold = |link: &Link| !link.replaces && link.refused.is_none() && !is_noted(&link.rank);
        for link in links.iter().take(records_max).take_while(|link| can_fold(link)) {
            // By versions, what comes late is overtaken.
            if folded.as_ref().is_some_and(|folded| *folded.last >= link.rank) {
                break;
            }
            let (key, update) = match self.write_at(link.index) {
                Ok(Write { change: Change::Update(key, update), .. }) => (key, update),
                Ok(_) => return (1, Err(bug("a put has become an update"))),
                Err(why) => return (1, Err(why)),
            };
            match &mut folded {
                None => folded = Some(Folded { key, update, count: 1, last: &link.rank }),
                Some(folded) => {
                    if folded.update.bytes() + update.bytes() > FOLD_BYTES_MAX || !folded.update.absorb(update) {
                        break;
                    }
                    folded.count += 1;
                    folded.last = &link.rank;
                }
            }
        }
        let (Some(Folded { key, mut update, count, last }), Some(first)) = (folded, links.first()) else {
            return (1, Err(bug("there is nothing to update")));
        };
        update.refused = positions(owed);
        // Of what the item is told here, nothing was made either: another worker may have.
        let first = owed.first().unwrap_or(&first.rank);
        let seen = known.and_then(|there| there.refused_to.as_ref());
        let _reservation = self.emitter.encoding.reserve(update.bytes()).await;
        let DynamoDbEmitter { config, traffic, .. } = self.emitter;
        let met = requests::update_guarded(config, &traffic.pace, (key, update), (first, seen), last).await;
        self.emitter.answered(lane, Answer::of(&met), &met);
        (count, if count > 1 { met } else { self.explained(Action::UpdateItem, met).await })
    }
}

/// Takes out what needs no note, since the item says what became of it. Says whether there was any.
fn drop_decided(owed: &mut Vec<Rank>, there: &There) -> bool {
    let before = owed.len();
    owed.retain(|rank| there.decided() < Some(rank));
    owed.len() < before
}

fn positions(ranks: &[Rank]) -> Vec<String> {
    let position = |rank: &Rank| match rank {
        Rank::Position(position) => Some(position.clone()),
        Rank::Version(_) => None,
    };
    ranks.iter().filter_map(position).collect()
}

/// Index of the last put that nothing before it comes after, so that it takes all of it along.
fn replacing(links: &[Link]) -> Option<usize> {
    let takes_all = |place: usize, link: &Link| {
        let mut before = links.iter().take(place);
        link.replaces && link.refused.is_none() && before.all(|other| other.rank < link.rank)
    };
    links.iter().enumerate().rposition(|(place, link)| takes_all(place, link))
}

fn refuse(link: Option<&mut Link>, why: Reject) {
    if let Some(link) = link {
        link.refused = Some(why);
    }
}

/// Updates of one item that go in one request.
struct Folded<'a> {
    key: Attributes,
    update: Update,
    count: usize,
    last: &'a Rank,
}
