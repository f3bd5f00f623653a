//! Chains to requests.

use kinesink_core::{Failure, Reject};

use super::attributes::Attributes;
use super::chain::{Chain, Link, Outcome, Sending};
use super::emitter::DynamoDbEmitter;
use super::error::{Throttle, Verdict};
use super::lanes::Answer;
use super::notes::{self, NOTES_OF_A_WINDOW_MAX};
use super::requests::{self, Met};
use super::table::ItemKey;
use super::update::Update;
use super::write::{Change, Rank, Write};

/// DynamoDB takes no more in one request.
const BATCH_ITEMS_MAX: usize = 25;
/// Of JSON. On the wire, where bytes are base64 and text is escaped, a list of one-digit numbers is five times as large: that is still
/// below the 16 MB of a request.
const BATCH_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Updates of one item that go in one request.
const FOLD_RECORDS_MAX: usize = 1_000;
/// Of what they set and append, and a larger one alone.
const FOLD_BYTES_MAX: usize = 64 * 1024;

impl<U: Send + Sync> Sending<'_, U> {
    /// Puts the last write of the chain, which replaces the others. Where it is refused, the one before it is the last.
    pub(super) async fn put(&self, mut chain: Chain) -> (Chain, Outcome) {
        let outcome = loop {
            match self.put_one(chain.last()).await {
                Ok(Met::Foreign(why)) => {
                    chain.refuse_all(&why);
                    break chain.delivered();
                }
                Ok(Met::Later(..)) => break Outcome { overtaken: chain.all().collect(), ..chain.delivered() },
                Ok(Met::Written | Met::There(_)) => break chain.delivered(),
                Err(Verdict::Refused(why)) => {
                    if !chain.refuse_last(why) {
                        break chain.delivered();
                    }
                }
                Err(why) => break chain.failed(why),
            }
        };
        (chain, outcome)
    }

    async fn put_one(&self, index: usize) -> Result<Met, Verdict> {
        let lane = self.emitter.traffic.lanes.enter().await;
        let _reservation = self.emitter.encoding.reserve(self.record_bytes(index)).await;
        let DynamoDbEmitter { config, traffic, .. } = self.emitter;
        let Write { change: Change::Put(item) | Change::Delete(item), rank, .. } = self.write_at(index)? else {
            return Err(bug("an update has become a put"));
        };
        let met = requests::put_guarded(config, &traffic.pace, item, &rank).await;
        self.emitter.answered(lane, Answer::of(&met), &met);
        met
    }

    /// Makes each change of the chain once, in order, as many as possible in a request. Each request is made on the condition
    /// that none of its changes has been made yet; where some have, the item says which, and the others are sent. What is refused
    /// is not made, and the next that is made says so in the item: only there it outlives this process.
    pub(super) async fn update(&self, chain: Chain) -> (Chain, Outcome) {
        let mut outcome = Outcome::default();
        let mut links = chain.links().to_vec();
        let mut records_max = FOLD_RECORDS_MAX;
        // Refused, and no item says so yet.
        let mut owed: Vec<String> = Vec::new();
        // Each turn sends, refuses or drops one link at least, or halves how many are tried at a time.
        while let Some(first) = links.first() {
            if let Some(why) = first.refused.clone() {
                let note = self.note(&first.rank);
                outcome.refused.push((links.remove(0).index, why));
                if note.is_some() && outcome.refused.len() >= NOTES_OF_A_WINDOW_MAX {
                    outcome.refuse_rest(links.drain(..));
                }
                owed.extend(note);
                continue;
            }
            let replacing = replacing(&links);
            let (sent, result) = match replacing.and_then(|place| Some((place, links.get(place)?))) {
                Some((place, link)) => (place + 1, self.put_one(link.index).await),
                None => self.update_first(&links, records_max, owed.clone()).await,
            };
            match result {
                Ok(Met::Written) => {
                    let refused = links.drain(..sent).filter_map(|link| Some((link.index, link.refused?)));
                    outcome.refused.extend(refused);
                    owed.clear();
                    records_max = (records_max * 2).min(FOLD_RECORDS_MAX);
                }
                Ok(Met::There(noted)) => {
                    let found = links.get(sent - 1).map(|link| link.rank.clone());
                    self.made(links.drain(..sent).collect(), found.as_ref(), &noted, &mut outcome).await;
                }
                Ok(Met::Later(found, noted)) => {
                    // Of what is there, the service may say nothing.
                    let made = match &found {
                        Some(found) => links.iter().take_while(|link| link.rank <= *found).count(),
                        None => sent,
                    };
                    self.made(links.drain(..made.max(1)).collect(), found.as_ref(), &noted, &mut outcome).await;
                }
                Ok(Met::Foreign(why)) => {
                    outcome.refused.extend(links.drain(..).map(|link| (link.index, why.clone())));
                }
                Err(Verdict::Refused(why)) => match replacing {
                    // What it would have replaced counts then.
                    Some(place) => refuse(links.get_mut(place), why),
                    None if sent == 1 => {
                        refuse(links.first_mut(), why);
                        records_max = 1;
                    }
                    None => records_max = (sent / 2).max(1),
                },
                Err(why) => {
                    // What was refused goes along with what has to say so.
                    outcome.again.extend(outcome.refused.drain(..).map(|(index, _)| index));
                    outcome.again.extend(links.iter().map(|link| link.index));
                    outcome.why = Some(why);
                    break;
                }
            }
        }
        (chain, outcome)
    }

    /// What an item has, or had before what it has; a dead letter of which it says that it was refused is made now.
    async fn made(&self, mut links: Vec<Link>, found: Option<&Rank>, noted: &[String], outcome: &mut Outcome) {
        if self.emitter.config.is_replay {
            let mut others = Vec::new();
            for link in links {
                match self.make_noted(&link, noted).await {
                    Ok(true) => {}
                    Ok(false) => others.push(link),
                    Err(Verdict::Refused(why)) => outcome.refused.push((link.index, why)),
                    Err(why) => {
                        outcome.again.push(link.index);
                        outcome.why = Some(why);
                    }
                }
            }
            links = others;
        }
        outcome.made(links.into_iter(), found, noted);
    }

    /// Makes what the change adds and appends, if it is noted as refused and can be read now. Says whether it did.
    async fn make_noted(&self, link: &Link, noted: &[String]) -> Result<bool, Verdict> {
        let Rank::Position(note) = &link.rank else { return Ok(false) };
        if link.refused.is_some() || !noted.contains(note) {
            return Ok(false);
        }
        let lane = self.emitter.traffic.lanes.enter().await;
        let Change::Update(key, update) = self.write_at(link.index)?.change else { return Ok(false) };
        let Some(update) = update.counted() else { return Ok(false) };
        let _reservation = self.emitter.encoding.reserve(update.bytes()).await;
        let DynamoDbEmitter { config, traffic, .. } = self.emitter;
        let made = notes::make(config, &traffic.pace, key, update, note).await;
        self.emitter.answered(lane, Answer::of(&made), &made);
        made
    }

    /// How an item says that the change of this rank was refused. By a version it need not: the highest stays.
    fn note(&self, rank: &Rank) -> Option<String> {
        match rank {
            Rank::Position(text) => Some(text.clone()),
            Rank::Version(_) => None,
        }
    }

    /// Sends the first changes together, and says how many they are.
    async fn update_first(
        &self,
        links: &[Link],
        records_max: usize,
        owed: Vec<String>,
    ) -> (usize, Result<Met, Verdict>) {
        if let Some(link) = links.first().filter(|link| link.replaces) {
            return (1, self.put_one(link.index).await);
        }
        let lane = self.emitter.traffic.lanes.enter().await;
        let mut folded: Option<Folded<'_>> = None;
        for link in links.iter().take(records_max).take_while(|link| !link.replaces && link.refused.is_none()) {
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
        update.refused = owed;
        let _reservation = self.emitter.encoding.reserve(update.bytes()).await;
        let DynamoDbEmitter { config, traffic, .. } = self.emitter;
        let met = requests::update_guarded(config, &traffic.pace, key, update, &first.rank, last).await;
        self.emitter.answered(lane, Answer::of(&met), &met);
        (count, met)
    }

    /// Chains that go in one request.
    pub(super) fn batches(&self, chains: Vec<Chain>) -> Vec<Vec<Chain>> {
        let mut batches: Vec<Vec<Chain>> = Vec::new();
        let mut batch_bytes = 0;
        for chain in chains {
            let chain_bytes = self.record_bytes(chain.last());
            match batches.last_mut() {
                Some(batch) if batch.len() < BATCH_ITEMS_MAX && batch_bytes + chain_bytes <= BATCH_BYTES_MAX => {
                    batch_bytes += chain_bytes;
                    batch.push(chain);
                }
                _ => {
                    batch_bytes = chain_bytes;
                    batches.push(vec![chain]);
                }
            }
        }
        batches
    }

    /// Sends the last writes of all of them. Where the service refuses that, it does not say which is at fault: it is looked
    /// for by halves.
    pub(super) async fn put_batch(&self, chains: Vec<Chain>) -> Vec<(Chain, Outcome)> {
        let mut sent = Vec::with_capacity(chains.len());
        let mut parts = vec![chains];
        // Halves of at most 25, and each part of one chain becomes shorter.
        while let Some(mut part) = parts.pop() {
            match self.put_part(&part).await {
                Ok(left) => sent.extend(part.into_iter().map(|mut chain| {
                    let outcome =
                        if left.contains(&chain.key) { chain.failed(self.no_room()) } else { chain.delivered() };
                    (chain, outcome)
                })),
                Err(Verdict::Refused(_)) if part.len() > 1 => {
                    let half = part.split_off(part.len() / 2);
                    parts.push(half);
                    parts.push(part);
                }
                Err(Verdict::Refused(why)) => {
                    for mut chain in part {
                        // The one before it is the last now.
                        if chain.refuse_last(why.clone()) {
                            parts.push(vec![chain]);
                        } else {
                            let outcome = chain.delivered();
                            sent.push((chain, outcome));
                        }
                    }
                }
                Err(why) => sent.extend(part.into_iter().map(|mut chain| {
                    let outcome = chain.failed(why.clone());
                    (chain, outcome)
                })),
            }
        }
        sent
    }

    async fn put_part(&self, part: &[Chain]) -> Result<Vec<ItemKey>, Verdict> {
        let lane = self.emitter.traffic.lanes.enter().await;
        let record_bytes = part.iter().map(|chain| self.record_bytes(chain.last())).sum();
        let _reservation = self.emitter.encoding.reserve(record_bytes).await;
        let changes = part.iter().map(|chain| self.write_at(chain.last()).map(|write| write.change));
        let changes = changes.collect::<Result<Vec<_>, _>>()?;
        let DynamoDbEmitter { config, traffic, .. } = self.emitter;
        let left = requests::put_batch(config, &traffic.pace, self.table, changes).await;
        let answer = match &left {
            // Of some keys alone, it is their own limit.
            Ok(left) if left.len() > part.len() / 2 => Answer::NoRoom,
            Ok(left) if !left.is_empty() => Answer::OfItsOwn,
            left => Answer::of(left),
        };
        if let Ok(left) = &left
            && !left.is_empty()
        {
            config.metrics.throttled(&config.table, Throttle::Unknown, left.len());
        }
        self.emitter.answered(lane, answer, &left);
        left
    }

    fn no_room(&self) -> Verdict {
        let table = &self.emitter.config.table;
        let failure = Failure::transient(format!("table {table} had no room for all items of a request"));
        Verdict::Throttled { table: table.clone(), limit: Throttle::Unknown, failure }
    }
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

fn bug(what: &str) -> Verdict {
    Verdict::Failed(Failure::fatal(format!("{what}: a bug")))
}
