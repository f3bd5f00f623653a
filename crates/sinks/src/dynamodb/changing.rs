//! Chains of changes to requests.

use std::collections::VecDeque;

use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::{Failure, Reject};
use tracing::debug;

use super::chain::{Chain, Link, Outcome};
use super::config::REFUSED_TO;
use super::emitter::DynamoDbEmitter;
use super::error::{Action, Verdict};
use super::full::FULL_ITEMS_MAX;
use super::lanes::Answer;
use super::notes::{self, NOTES_OF_A_WINDOW_MAX, Noted, There};
use super::requests::{self, Met, OverMark};
use super::sending::{Sending, bug};
use super::table::ItemKey;
use super::update::Update;
use super::write::{Change, Rank, Write, expiry};
use crate::position_text::position_text;

/// Updates of one item that go in one request.
const FOLD_RECORDS_MAX: usize = 1_000;
/// Of what they set and append, and a larger one alone.
const FOLD_BYTES_MAX: usize = 64 * 1024;
/// Conditions that do not hold one after the other, while others change the item.
const LOOKS_MAX: usize = 100;

impl<U: Send + Sync> Sending<'_, U> {
    /// Makes each change of the chain once, in order, as many as possible in a request. Each request is made on the condition
    /// that none of its changes has been made yet; where some have, the item says which, and the others are sent. What is refused
    /// is not made, and the next that is made says so in the item, or a request of its own: only there it outlives this process.
    pub(super) async fn update(&self, mut chain: Chain) -> (Chain, Outcome) {
        let (last, links) = (chain.last(), chain.take_links());
        let (owed, known, outcome) = (Vec::new(), None, Outcome::default());
        let changing = Changing { sending: self, key: &chain.key, last, links, refusals: 0, owed, known, outcome };
        let outcome = changing.run().await;
        (chain, outcome)
    }
}

/// A chain of changes on its way.
struct Changing<'a, U> {
    sending: &'a Sending<'a, U>,
    key: &'a ItemKey,
    /// In the batch, its last.
    last: usize,
    /// What is left of it.
    links: VecDeque<Link>,
    /// How many were refused here.
    refusals: usize,
    /// Positions of those of them of which no item says so yet.
    owed: Vec<Rank>,
    /// What the item said, once a condition did not hold.
    known: Option<There>,
    outcome: Outcome,
}

impl<U: Send + Sync> Changing<'_, U> {
    async fn run(mut self) -> Outcome {
        if let Err(why) = self.make().await {
            self.outcome.failed(self.links.iter(), why);
        } else if let Err(why) = self.leave().await {
            self.outcome.failed([].iter(), why);
        }
        self.outcome
    }

    async fn make(&mut self) -> Result<(), Verdict> {
        self.refuse_behind_full();
        let (mut records_max, mut looks) = (FOLD_RECORDS_MAX, 0);
        // Each turn sends, refuses or drops one link at least, halves how many are tried at a time, or knows more of the item.
        while let Some(first) = self.links.front() {
            if let Some(why) = first.refused.clone() {
                self.refuse_first(why)?;
                continue;
            }
            if self.known.as_ref().is_some_and(|there| there.has(&first.rank)) {
                self.decide_first().await?;
                continue;
            }
            let replacing = replacing(&self.links);
            let (sent, result) = match replacing.and_then(|place| Some((place, self.links.get(place)?))) {
                Some((place, link)) => (place + 1, self.sending.put_one(link.index).await),
                None => self.update_first(records_max).await,
            };
            match result {
                Ok(Met::Written { notes }) => {
                    (records_max, looks) = ((records_max * 2).min(FOLD_RECORDS_MAX), 0);
                    self.written(sent, notes).await?;
                }
                // Of what is there, the service may say nothing.
                Ok(Met::There(there)) if there.decided().is_none() => {
                    self.outcome.overtaken.extend(self.links.drain(..sent).map(|link| link.index));
                }
                Ok(Met::There(there)) if looks == LOOKS_MAX || self.known.as_ref() == Some(&there) => {
                    return Err(self.unexplained());
                }
                Ok(Met::There(there)) => {
                    looks += 1;
                    drop_decided(&mut self.owed, &there);
                    self.known = Some(there);
                }
                Ok(Met::Foreign(why)) => {
                    self.outcome.refused.extend(self.links.drain(..).map(|link| (link.index, why.clone())));
                }
                Err(Verdict::Refused(why) | Verdict::Unclear { why, .. }) => match replacing {
                    // What it would have replaced counts then.
                    Some(place) => refuse(self.links.get_mut(place), why),
                    None if sent == 1 => {
                        refuse(self.links.front_mut(), why);
                        records_max = 1;
                    }
                    None => records_max = (sent / 2).max(1),
                },
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// What an earlier part of the window had refused counts in this one.
    fn refuse_behind_full(&mut self) {
        let Sending { emitter, batch, .. } = self.sending;
        if let Some(last) = emitter.full.behind(batch, self.key) {
            let place = self.links.partition_point(|link| link.rank <= last);
            self.outcome.refuse_rest(self.links.drain(place..));
        }
    }

    /// It is to be noted, unless it is, or was one of more.
    fn refuse_first(&mut self, why: Reject) -> Result<(), Verdict> {
        let Some(Link { index, rank, .. }) = self.links.pop_front() else { return Ok(()) };
        self.outcome.refused.push((index, why));
        self.refusals += 1;
        // By a version the item need not say it: the highest stays.
        if !matches!(rank, Rank::Position(_)) {
            return Ok(());
        }
        let is_news = self.known.as_ref().is_none_or(|there| there.decided() < Some(&rank));
        if is_news && self.owed.len() < NOTES_OF_A_WINDOW_MAX {
            self.owed.push(rank.clone());
        }
        if self.refusals >= NOTES_OF_A_WINDOW_MAX { self.refuse_rest(&rank) } else { Ok(()) }
    }

    /// The first changes are made.
    async fn written(&mut self, sent: usize, notes: Vec<String>) -> Result<(), Verdict> {
        let last = sent.checked_sub(1).and_then(|last| self.links.get(last)).map(|link| link.rank.clone());
        let refused = self.links.drain(..sent).filter_map(|link| Some((link.index, link.refused?)));
        self.outcome.refused.extend(refused);
        self.owed.clear();
        match last {
            Some(last) => self.noted(notes, &last).await,
            None => Ok(()),
        }
    }

    /// The item has these notes now, the last of them no later than the change `last`.
    async fn noted(&mut self, notes: Vec<String>, last: &Rank) -> Result<(), Verdict> {
        if notes.is_empty() {
            return Ok(());
        }
        let window = position_text(self.sending.batch.first);
        let of_window = notes.iter().filter(|note| **note >= window).count();
        let surplus = notes::surplus(notes, &window);
        if !surplus.is_empty() {
            self.forget(surplus).await;
        }
        if of_window >= NOTES_OF_A_WINDOW_MAX { self.refuse_rest(last) } else { Ok(()) }
    }

    /// What goes wrong with that is made up for with the next that is noted.
    async fn forget(&self, surplus: Vec<String>) {
        let DynamoDbEmitter { config, traffic, .. } = self.sending.emitter;
        let (key, count) = (self.sending.table.attributes_of(self.key), surplus.len());
        let lane = traffic.lanes.enter().await;
        let forgotten = notes::forget(config, &traffic.pace, key, surplus).await;
        self.sending.emitter.answered(lane, Answer::of(&forgotten), &forgotten);
        let table = &config.table;
        debug!(table, count, ?forgotten, "an item has too many notes of refused changes: the earliest go");
    }

    /// Behind so many that were refused, all are until the window ends. Not of a replay, which has only records that were.
    fn refuse_rest(&mut self, last: &Rank) -> Result<(), Verdict> {
        let DynamoDbEmitter { config, full, .. } = self.sending.emitter;
        if config.is_replay {
            return Ok(());
        }
        if !full.add(self.sending.batch, self.key, last) {
            return Err(Verdict::Failed(Failure::configuration(format!(
                "cannot tell {FULL_ITEMS_MAX} items of table {} of all that is refused of a window: each has room for {NOTES_OF_A_WINDOW_MAX} \
                 records, and near 400 KB for none; mend what refuses them, in the transform or in `types`",
                config.table
            ))));
        }
        self.outcome.refuse_rest(self.links.drain(..));
        Ok(())
    }

    /// Has the item say what was refused behind all that was made: once a change is made behind it, it could not be told from what is
    /// made. Behind one for which the item has no room, the others of the window are refused.
    async fn leave(&mut self) -> Result<(), Verdict> {
        let DynamoDbEmitter { config, traffic, .. } = self.sending.emitter;
        if !config.notes_refused() {
            return Ok(());
        }
        // Each turn has fewer.
        while let (Some(first), Some(last)) = (self.owed.first().cloned(), self.owed.last().cloned()) {
            let mut update = Update::default();
            update.set(REFUSED_TO, last.to_attribute());
            update.refused = positions(&self.owed);
            if let Some((ttl, value)) = self.expiry_of_notes() {
                update.set_default(ttl, value);
            }
            let lane = traffic.lanes.enter().await;
            let item = (self.sending.table.attributes_of(self.key), update);
            let met = requests::request_update(config, &traffic.pace, item, (&first, None), OverMark::Whole).await;
            self.sending.emitter.answered(lane, Answer::of(&met), &met);
            match self.sending.explained(Action::UpdateItem, met).await {
                // By this worker or another.
                Ok(Met::There(there)) if drop_decided(&mut self.owed, &there) => {}
                Ok(Met::There(_)) => return Err(self.unexplained()),
                Ok(Met::Written { notes }) => return self.noted(notes, &last).await,
                Ok(Met::Foreign(_)) => return Ok(()),
                Err(Verdict::Refused(_)) => return self.refuse_rest(&last),
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// When an item expires that says nothing else.
    fn expiry_of_notes(&self) -> Option<(&str, AttributeValue)> {
        let config = &self.sending.emitter.config;
        let arrival = self.sending.batch.items.get(self.last)?.record.arrival;
        Some((config.ttl.as_deref()?, expiry(arrival, config.expire_after?)))
    }

    fn unexplained(&self) -> Verdict {
        let table = &self.sending.emitter.config.table;
        Verdict::Failed(Failure::transient(format!(
            "cannot update an item in table {table}: a condition does not hold, though by what is there it should"
        )))
    }

    /// What an item has, or had before what it has; a dead letter of which it says that it was refused is made now.
    async fn decide_first(&mut self) -> Result<(), Verdict> {
        let (Some(link), Some(there)) = (self.links.front(), self.known.as_mut()) else { return Ok(()) };
        if self.sending.emitter.config.is_replay && there.notes(&link.rank) {
            match make_noted(self.sending, link, there).await {
                Ok(Noted::Made) => {}
                // Its next update meets what is there now.
                Ok(Noted::Changed) => {
                    self.known = None;
                    return Ok(());
                }
                Ok(Noted::Overtaken) => {
                    self.outcome.refused.push((link.index, self.sending.emitter.overtaken_for_good()));
                }
                Err(Verdict::Refused(why)) => self.outcome.refused.push((link.index, why)),
                Err(why) => return Err(why),
            }
        } else {
            self.outcome.decided(link, there);
        }
        self.links.pop_front();
        Ok(())
    }

    /// Sends the first changes together, and says how many they are.
    async fn update_first(&self, records_max: usize) -> (usize, Result<Met, Verdict>) {
        let DynamoDbEmitter { config, traffic, encoding, .. } = self.sending.emitter;
        let lane = traffic.lanes.enter().await;
        let (mut update, folded) = match self.fold(records_max) {
            Ok(folded) => folded,
            Err(why) => return (1, Err(why)),
        };
        let (Some(first), Some(last)) = (self.links.front(), self.links.get(folded - 1)) else {
            return (1, Err(bug("there is nothing to update")));
        };
        update.refused = positions(&self.owed);
        // Of what the item is told here, nothing was made either: another worker may have.
        let first = self.owed.first().unwrap_or(&first.rank);
        let seen = self.known.as_ref().and_then(|there| there.refused_to.as_ref());
        let _reservation = encoding.reserve(update.bytes()).await;
        let item = (self.sending.table.attributes_of(self.key), update);
        let met = requests::update_guarded(config, &traffic.pace, item, (first, seen), &last.rank).await;
        self.sending.emitter.answered(lane, Answer::of(&met), &met);
        (folded, if folded > 1 { met } else { self.sending.explained(Action::UpdateItem, met).await })
    }

    /// What the first changes make together, and how many they are.
    fn fold(&self, records_max: usize) -> Result<(Update, usize), Verdict> {
        let is_noted = |rank: &Rank| self.known.as_ref().is_some_and(|there| there.notes(rank));
        let can_fold = |link: &&Link| !link.replaces && link.refused.is_none() && !is_noted(&link.rank);
        let mut folded: Option<(Update, usize, &Rank)> = None;
        for link in self.links.iter().take(records_max).take_while(can_fold) {
            // By versions, what comes late is overtaken.
            if folded.as_ref().is_some_and(|(_, _, last)| **last >= link.rank) {
                break;
            }
            let Write { change: Change::Update(_, next), .. } = self.sending.write_at(link.index)? else {
                return Err(bug("a put has become an update"));
            };
            match &mut folded {
                None => folded = Some((next, 1, &link.rank)),
                Some((update, count, last)) => {
                    if update.bytes() + next.bytes() > FOLD_BYTES_MAX || !update.absorb(next) {
                        break;
                    }
                    (*count, *last) = (*count + 1, &link.rank);
                }
            }
        }
        folded.map(|(update, count, _)| (update, count)).ok_or_else(|| bug("there is nothing to update"))
    }
}

/// Makes a change that is noted as refused, if it can be read now.
async fn make_noted<U: Send + Sync>(
    sending: &Sending<'_, U>,
    link: &Link,
    there: &mut There,
) -> Result<Noted, Verdict> {
    let DynamoDbEmitter { config, traffic, encoding, .. } = sending.emitter;
    let lane = traffic.lanes.enter().await;
    let Change::Update(key, update) = sending.write_at(link.index)?.change else { return Ok(Noted::Overtaken) };
    let _reservation = encoding.reserve(update.bytes()).await;
    let made = notes::make(config, &traffic.pace, (key, update), &link.rank, there).await;
    sending.emitter.answered(lane, Answer::of(&made), &made);
    sending.explained(Action::UpdateItem, made).await
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
fn replacing(links: &VecDeque<Link>) -> Option<usize> {
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
