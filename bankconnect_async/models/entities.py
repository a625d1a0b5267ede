"""
Responses of the entity flow (contract, `rest-api.md` sections 4, 7 and 8).
"""

import datetime

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import attrs

from ._fields import (
    PAIRS,
    Model,
    count,
    field,
    flag,
    hidden,
    is_present,
    label,
    list_field,
    list_of,
    lower_text,
    mapping,
    number,
    object_field,
    text,
    utc_timestamp,
)
from ._rows import Rows
from .accounts import (
    Account,
    ExpenseCategory,
    Fraud,
    Identity,
    RecurringSets,
    Report,
    SalaryTransaction,
    StatementProgress,
    Transaction,
    rows,
)
from .sessions import Value


def _as_it_is(value: Any, _path: str, _problems: list[str]) -> Any:
    return value


@attrs.frozen(kw_only=True)
class Entity(Model):
    """
    A customer in the entity flow (`GET entity/<entity_id>/`).

    Attributes:
        entity_id: The vendor's id.
        link_id: Your id of the customer, if one was given.
        meta_data: The data that was stored with it; a text, by the
            documentation.
    """

    entity_id: str = field(label, required=True)
    link_id: str | None = field(label)
    meta_data: Any = field(_as_it_is, repr=False, hash=False)


@attrs.frozen(kw_only=True)
class EntityPage(Model):
    """
    One page of `GET entity/`.

    Attributes:
        count: The number of entities on all pages.
        next, previous: The URLs of the pages beside it.
        results: The entities of this page.
    """

    count: int | None = field(count)
    next: str | None = field(text)
    previous: str | None = field(text)
    results: Rows[Entity] = field(list_of(Entity), required=True)


@attrs.frozen(kw_only=True)
class EntityResponse(Model):
    """
    The fields that all responses about an entity have.

    In `raw`, numbers with a fraction are `Decimal`.

    Attributes:
        entity_id: The id of the entity.
        progress: The progress of each statement in the analysis. Look at it
            before the data: data of statements in progress is missing.
    """

    entity_id: str = field(label, required=True)
    progress: Rows[StatementProgress] = list_field(StatementProgress)


@attrs.frozen(kw_only=True)
class Accounts(EntityResponse):
    """
    The accounts of an entity, and signs of fraud (`accounts/`).

    Attributes:
        accounts: The accounts.
        fraud: The signs of fraud.
    """

    accounts: Rows[Account] = list_field(Account)
    fraud: Fraud | None = field(Fraud)


@attrs.frozen(kw_only=True)
class Identities(Accounts):
    """
    The holders of the accounts (`identity/`).

    Attributes:
        identities: The holders, one for each account.
    """

    identities: Rows[Identity] = list_field(Identity, "identity")


@attrs.frozen(kw_only=True)
class Transactions(Accounts):
    """
    All transactions (`transactions/`), or those with lenders
    (`lender_transactions/`).

    Attributes:
        transactions: The transactions.
    """

    transactions: Rows[Transaction] = rows()


@attrs.frozen(kw_only=True)
class SalaryTransactions(Accounts):
    """
    Credits that the vendor takes for salaries (`salary/`).

    Attributes:
        transactions: The credits.
    """

    transactions: Rows[SalaryTransaction] = rows(cls=SalaryTransaction)


@attrs.frozen(kw_only=True)
class RecurringTransactions(Accounts):
    """
    Recurring credits and debits (`recurring_transactions/`).

    Attributes:
        transactions: The credits and debits.
    """

    transactions: RecurringSets = field(RecurringSets, factory=RecurringSets)


@attrs.frozen(kw_only=True)
class ExpenseCategories(EntityResponse):
    """
    The shares of the expenses (`get_expense_categories/`).

    Attributes:
        categories: The shares.
    """

    categories: Rows[ExpenseCategory] = list_field(ExpenseCategory)


@attrs.frozen(kw_only=True)
class TopAmount(Value):
    """
    One of the largest credits or debits of a month.

    Attributes:
        transaction_note: The note as the bank wrote it.
        amount: The amount, exactly as printed.
    """

    transaction_note: str = attrs.field(repr=False)
    amount: Decimal | None


def _top(value: object, path: str, problems: list[str]) -> Any:
    by_month = mapping(value, path, problems) or {}
    return {
        month: Rows(TopAmount, _amounts(entries, f"{path}.{month}", problems))
        for month, entries in by_month.items()
        if is_present(entries)
    }


def _amounts(
    value: object, path: str, problems: list[str]
) -> Iterator[TopAmount]:
    notes = mapping(value, path, problems) or {}
    # Equal notes of one month repeat a key.
    for note, amount in getattr(notes, PAIRS, notes.items()):
        yield TopAmount(
            transaction_note=note,
            amount=number(amount, f"{path}.*", problems)
            if is_present(amount)
            else None,
        )


@attrs.frozen(kw_only=True)
class TopFive(Model):
    """
    The largest transactions of each month, by the month as `Mmm-YY`.

    Attributes:
        credit: The credits.
        debit: The debits.
    """

    credit: Mapping[str, Rows[TopAmount]] = field(
        _top, "top_5_credit", factory=dict, hash=False
    )
    debit: Mapping[str, Rows[TopAmount]] = field(
        _top, "top_5_debit", factory=dict, hash=False
    )


@attrs.frozen(kw_only=True)
class TopCreditsDebits(EntityResponse):
    """
    The largest transactions of each month (`top_credits_debits/`).

    Attributes:
        top: The transactions.
    """

    top: TopFive = field(TopFive, "top_5_credit_debit", factory=TopFive)


@attrs.frozen(kw_only=True)
class MonthlyAnalysis(EntityResponse):
    """
    Figures of each month, over all accounts.

    The response of `monthly_analysis/`, until 2021 and in the vendor's
    collection, and of `rolling_monthly_analysis/`, withdrawn in 2023.

    Attributes:
        monthly_analysis: The figures as received, by name and month.
    """

    monthly_analysis: Mapping[str, Any] = object_field()


def _by_account(value: object, path: str, problems: list[str]) -> Any:
    found: dict[str, Any] = {}
    document = mapping(value, path, problems) or {}
    entries = list_of(mapping)(
        document.get("account_id") or (), f"{path}.account_id", problems
    )
    for entry in entries or ():
        for account_id, analysis in (entry or {}).items():
            figures = analysis
            if isinstance(analysis, Mapping):
                figures = analysis.get("monthly_analysis")
            found[account_id] = (
                mapping(figures, f"{path}.account_id", problems)
                if is_present(figures)
                else {}
            )
    return found


@attrs.frozen(kw_only=True)
class MonthlyAnalyses(EntityResponse):
    """
    Figures of each month and account (`monthly_analysis_updated/`).

    Attributes:
        accounts: The accounts of the entity.
        monthly_analysis: The figures as received, by id of the account, name
            and month as `Mmm-YYYY`.
    """

    accounts: Rows[Account] = list_field(Account)
    monthly_analysis: Mapping[str, Mapping[str, Any]] = field(
        _by_account, factory=dict, repr=False, hash=False
    )


@attrs.frozen(kw_only=True)
class AccountPredictors(Model):
    """
    About 200 variables of one account.

    Attributes:
        account_id: The vendor's id of the account.
        predictors: The variables as received. They include the account number
            and the holder's name.
    """

    account_id: str | None = field(label)
    predictors: Mapping[str, Any] = object_field()


@attrs.frozen(kw_only=True)
class Predictors(EntityResponse):
    """
    Variables for a credit decision (`predictors/`).

    Attributes:
        predictors: The variables of each account.
    """

    predictors: Rows[AccountPredictors] = list_field(AccountPredictors)


@attrs.frozen(kw_only=True)
class AccountScore(Model):
    """
    The score of one account.

    Attributes:
        account_id: The vendor's id of the account.
        score: The score, from 300 to 900.
    """

    account_id: str | None = field(label)
    score: Decimal | None = field(number)


@attrs.frozen(kw_only=True)
class Scores(EntityResponse):
    """
    The scores of the accounts (`score/`).

    Attributes:
        scores: The score of each account.
    """

    scores: Rows[AccountScore] = list_field(AccountScore, "score")


@attrs.frozen(kw_only=True)
class Reports(EntityResponse):
    """
    A workbook for each account; none while statements are in progress.

    Attributes:
        reports: The workbooks.
    """

    reports: Rows[Report] = list_field(Report)


@attrs.frozen(kw_only=True)
class ExcelReport(Model):
    """
    One workbook, as of May 2020 (`get_excel_report/`).

    Attributes:
        entity_id: The id of the entity.
        progress: `processing`, `completed` or `failed`.
        report: The link of the workbook.
    """

    entity_id: str = field(label, required=True)
    progress: str | None = field(lower_text)
    report: str | None = field(text, repr=hidden)


@attrs.frozen(kw_only=True)
class Bank(Model):
    """
    A bank, and the ways to its statements.

    Attributes:
        name: The bank identifier, in upper case.
        full_name: The name for people.
        npci_code: The code of the payments corporation, where it has one.
        logo_url: The URL of a logo.
        is_pdf_upload_available, is_net_banking_available, is_aa_available:
            Whether each way exists.
    """

    name: str = field(text, required=True)
    full_name: str | None = field(text)
    npci_code: str | None = field(text)
    logo_url: str | None = field(text)
    is_pdf_upload_available: bool | None = field(flag)
    is_net_banking_available: bool | None = field(flag)
    is_aa_available: bool | None = field(flag)


@attrs.frozen(kw_only=True)
class BankCatalogue(Model):
    """
    All banks (`banks/catalogue/`).

    Attributes:
        banks: The banks.
    """

    banks: Rows[Bank] = field(list_of(Bank), required=True)


@attrs.frozen(kw_only=True)
class BankHealth(Model):
    """
    The state of a bank's net banking (`net_banking_health/`).

    Attributes:
        bank: The bank identifier, in upper case.
        health_up: Whether it works.
        issue_details: The problem, if there is one.
        updated_at: The time of the last check.
    """

    bank: str = field(text, required=True)
    health_up: bool | None = field(flag)
    issue_details: str | None = field(text)
    updated_at: datetime.datetime | None = field(utc_timestamp)
