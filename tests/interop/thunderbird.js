// What a person does with Thunderbird, for scripts that Marionette runs in its main process (thunderbird.py).
// Each function is called with values that JSON can hold and answers, perhaps later, with such values.

const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const { AccountConfig } = ChromeUtils.importESModule("resource:///modules/accountcreation/AccountConfig.sys.mjs");
const { ConfigVerifier } = ChromeUtils.importESModule("resource:///modules/accountcreation/ConfigVerifier.sys.mjs");
const { CreateInBackend } = ChromeUtils.importESModule("resource:///modules/accountcreation/CreateInBackend.sys.mjs");

const main = () => Services.wm.getMostRecentWindow("mail:3pane");
const panes = () => main().gTabmail.currentAbout3Pane;

/** Wait until `look()` finds something; the script's own limit of time ends it. */
async function until(look) {
  for (;;) {
    const found = look();
    if (found) {
      return found;
    }
    await new Promise(resolve => main().setTimeout(resolve, 20));
  }
}

/** Hand an nsIUrlListener to `start`; an error where the URL that it runs fails. */
function running(start) {
  return new Promise((resolve, reject) => {
    start({
      QueryInterface: ChromeUtils.generateQI(["nsIUrlListener"]),
      OnStartRunningUrl() {},
      OnStopRunningUrl: (url, status) => settle(status, resolve, reject),
    });
  });
}

/** End a promise by what XPCOM tells. */
function settle(status, resolve, reject) {
  if (Components.isSuccessCode(status)) {
    resolve();
  } else {
    reject(new Error(`it ended with 0x${status.toString(16)}`));
  }
}

function server(login) {
  return MailServices.accounts.accounts.map(one => one.incomingServer).find(one => one.username == login);
}

function identity(login) {
  return MailServices.accounts.allIdentities.find(one => one.email == login);
}

function folder(login, path) {
  return path.split("/").reduce((above, name) => above?.getChildNamed(name), server(login).rootFolder);
}

function header(where, subject) {
  return [...where.messages].find(one => one.mime2DecodedSubject == subject);
}

// --- once

/** Remember from now on what Thunderbird tells its user about. */
function listen() {
  const said = (main().complaints = []);
  MailServices.mailSession.addUserFeedbackListener({
    QueryInterface: ChromeUtils.generateQI(["nsIMsgUserFeedbackListener"]),
    onAlert(message) {
      said.push(message);
      return true;
    },
    onCertError(info) {
      said.push(`certificate: ${info?.errorCodeString}`);
    },
  });
}

/** What it has told since somebody asked, and the windows that are open but the one. */
function complaints() {
  const windows = [...Services.wm.getEnumerator(null)].map(one => one.document.documentURI);
  return [...main().complaints.splice(0), ...windows.filter(one => !one.endsWith("/messenger.xhtml"))];
}

/** Trust a CA, given in base 64. */
function trust(certificate) {
  const database = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
  database.addCertFromBase64(certificate, "C,,");
}

/** Set up an account as its assistant does: log in with what the person entered, then keep it. */
async function setUp({ login, password, host, tls, imap, smtp }) {
  const config = new AccountConfig();
  const socketType = Ci.nsMsgSocketType[tls];
  const same = { hostname: host, username: login, password, socketType, auth: Ci.nsMsgAuthMethod.passwordCleartext };
  Object.assign(config.incoming, same, { type: "imap", port: imap });
  Object.assign(config.outgoing, same, { type: "smtp", port: smtp });
  config.identity = { realname: "Someone", emailAddress: login };
  config.rememberPassword = true;
  const checked = await new ConfigVerifier(main().msgWindow, new AbortController().signal).verifyConfig(config, false);
  await CreateInBackend.createAccountInBackend(checked);
}

// --- reading

/** The account's mailboxes with what each is for, as far as Thunderbird has heard. */
function mailboxes(login) {
  const root = server(login).rootFolder;
  const uses = ["Inbox", "Archive", "Drafts", "Junk", "SentMail", "Trash"];
  const use = one => uses.find(name => one.getFlag(Ci.nsMsgFolderFlags[name])) ?? null;
  const path = one => decodeURIComponent(one.URI.slice(root.URI.length + 1));
  return Object.fromEntries(root.descendants.map(one => [path(one), use(one)]));
}

/** Show a mailbox, which leaves a connection idling in it. */
async function show(login, path) {
  const where = await until(() => folder(login, path));
  await until(() => panes().folderPane?.getRowForFolder(where));
  panes().displayFolder(where);
  await until(() => panes().gFolder == where && panes().gDBView);
}

function subjects(login, path) {
  return [...folder(login, path).messages].map(one => one.mime2DecodedSubject);
}

/** Press "Get Messages". */
function look(login, path) {
  folder(login, path).getNewMessages(main().msgWindow, null);
}

/** Wait for a message, without asking for it. */
async function arrived(login, path, subject) {
  await until(() => header(folder(login, path), subject));
}

async function gone(login, path, subject) {
  await until(() => !header(folder(login, path), subject));
}

async function flagged(login, path, subject) {
  await until(() => header(folder(login, path), subject).isFlagged);
}

/** Select a message of the open mailbox, so that it is shown; what stands there. */
async function read(login, path, subject) {
  await select(login, path, subject);
  const shown = panes().messageBrowser.contentWindow;
  await until(() => shown.msgLoaded && shown.gMessage?.mime2DecodedSubject == subject);
  const from = shown.gMessage.mime2DecodedAuthor;
  const body = shown.getMessagePaneBrowser().contentDocument.body.textContent;
  return { from, body, attachments: shown.currentAttachments.map(one => one.name) };
}

async function select(login, path, subject) {
  const found = await until(() => header(folder(login, path), subject));
  await until(() => panes().gDBView.findIndexOfMsgHdr(found, true) != 0xffffffff);
  panes().selectMessage(found);
}

/** A message's source as Thunderbird has it, a character an octet. */
async function source(login, path, subject) {
  const found = header(folder(login, path), subject);
  const uri = found.folder.getUriForMsg(found);
  let octets = "";
  await new Promise((resolve, reject) => {
    const consumer = {
      QueryInterface: ChromeUtils.generateQI(["nsIStreamListener"]),
      onStartRequest() {},
      onDataAvailable(_, input, __, count) {
        const stream = Cc["@mozilla.org/binaryinputstream;1"].createInstance(Ci.nsIBinaryInputStream);
        stream.setInputStream(input);
        octets += stream.readBytes(count);
      },
      onStopRequest: (_, status) => settle(status, resolve, reject),
    };
    MailServices.messageServiceFromURI(uri).streamMessage(uri, consumer, null, null, false, "", false);
  });
  return octets;
}

/** Search on the server for messages of which `attribute` (of nsMsgSearchAttrib) contains `text`; their subjects. */
async function search(login, path, attribute, text) {
  const session = Cc["@mozilla.org/messenger/searchSession;1"].createInstance(Ci.nsIMsgSearchSession);
  session.addScopeTerm(Ci.nsMsgSearchScope.onlineMail, folder(login, path));
  const term = session.createTerm();
  const value = term.value;
  value.attrib = term.attrib = Ci.nsMsgSearchAttrib[attribute];
  value.str = text;
  term.op = Ci.nsMsgSearchOp.Contains;
  term.value = value;
  session.appendTerm(term);
  const found = [];
  await new Promise((resolve, reject) => {
    session.registerListener(
      {
        QueryInterface: ChromeUtils.generateQI(["nsIMsgSearchNotify"]),
        onNewSearch() {},
        onSearchHit: one => found.push(one.mime2DecodedSubject),
        onSearchDone: status => settle(status, resolve, reject),
      },
      Ci.nsIMsgSearchSession.allNotifications
    );
    session.search(main().msgWindow);
  });
  return found;
}

// --- changing

/** Do a command of the menu with one message of the open mailbox. */
async function command(login, path, subject, name) {
  await select(login, path, subject);
  await until(() => panes().commandController.isCommandEnabled(name));
  panes().commandController.doCommand(name);
}

/** Give a message the first of the tags that every profile has. */
function tag(login, path, subject) {
  const where = folder(login, path);
  where.addKeywordsToMessages([header(where, subject)], "$label1");
}

async function move(login, path, subject, target) {
  const from = folder(login, path);
  const to = folder(login, target);
  await new Promise((resolve, reject) => {
    const listener = {
      QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]),
      onStartCopy() {},
      onProgress() {},
      setMessageKey() {},
      getMessageId: () => null,
      onStopCopy: status => settle(status, resolve, reject),
    };
    MailServices.copy.copyMessages(from, [header(from, subject)], to, true, listener, main().msgWindow, false);
  });
}

/** Remove for good what is marked deleted. */
async function compact(login, path) {
  await running(listener => folder(login, path).compact(listener, main().msgWindow));
}

async function emptyTrash(login) {
  const trash = server(login).rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Trash);
  await running(listener => trash.emptyTrash(listener));
}

async function create(login, name) {
  const root = server(login).rootFolder;
  root.createSubfolder(name, main().msgWindow);
  await until(() => root.containsChildNamed(name));
}

async function rename(login, name, other) {
  const root = server(login).rootFolder;
  root.getChildNamed(name).rename(other, main().msgWindow);
  await until(() => root.containsChildNamed(other) && !root.containsChildNamed(name));
}

async function remove(login, name) {
  folder(login, name).deleteSelf(main().msgWindow);
  await until(() => !server(login).rootFolder.containsChildNamed(name));
}

// --- writing

/** Write a message in a window of its own and press Send; returns when the window has closed. */
async function send(login, to, subject, body, attachment) {
  const attached = Cc["@mozilla.org/messengercompose/attachment;1"].createInstance(Ci.nsIMsgAttachment);
  const url = `data:application/octet-stream;base64,${attachment}`;
  Object.assign(attached, { name: "attached.bin", url, contentType: "application/octet-stream" });
  await sent(await write(login, { to, subject, body }, attached));
}

/** Answer a message of the shown mailbox as it is. */
async function answer(login, path, subject) {
  await command(login, path, subject, "cmd_reply");
  await sent(await writing());
}

/** Begin a message, keep it as a draft and leave. */
async function draft(login, subject) {
  const written = await write(login, { subject, body: "not yet" });
  await press(written, "cmd_saveAsDraft");
  await until(() => header(folder(login, "Drafts"), subject));
  written.close();
  await until(() => written.closed);
}

async function write(login, content, ...attachments) {
  const composeFields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
  Object.assign(composeFields, content);
  attachments.forEach(one => composeFields.addAttachment(one));
  const wanted = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
  const format = Ci.nsIMsgCompFormat.PlainText;
  Object.assign(wanted, { composeFields, identity: identity(login), type: Ci.nsIMsgCompType.New, format });
  MailServices.compose.OpenComposeWindowWithParams(null, wanted);
  return writing();
}

async function sent(written) {
  await press(written, "cmd_sendNow");
  await until(() => written.closed);
}

/** Do a command of a window's menu once it can be done; Send cannot before the recipients have been looked at. */
async function press(written, name) {
  await until(() => written.getEnabledControllerForCommand(name));
  written.goDoCommand(name);
}

async function writing() {
  const written = await until(() => Services.wm.getMostRecentWindow("msgcompose"));
  await until(() => written.composeEditorReady);
  return written;
}
